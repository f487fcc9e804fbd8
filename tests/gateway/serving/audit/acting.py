"""Models in numpy, some of which mix rows, and samples of their batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from sluice.gateway.serving.audit.examine import AuditFinding, examine
from sluice.gateway.serving.audit.sample import Choice, Sample, sample_of
from sluice.inference.types import Array, Arrays, BatchResult, Datatype, TensorSpec

Model = Callable[[Array], Arrays]
"""Takes an input of rows and gives all outputs; raises `ValueError` for what it refuses."""

Y = (TensorSpec("y", Datatype.FP32, (None, None)),)


def doubled(x: Array) -> Arrays:
    return (2 * x,)


def centred(x: Array) -> Arrays:
    return (x - x.mean(axis=0, keepdims=True),)


def late(x: Array) -> Arrays:
    """Only a row of large values takes the branch in which rows mix."""
    return (np.where(x > 50, x.mean(axis=0, keepdims=True), x),)


def first_only(x: Array) -> Arrays:
    """A detector that fills the first row of a batch."""
    return (np.where(np.arange(len(x))[:, None] == 0, x, 0).astype(x.dtype),)


def shared_out(x: Array) -> Arrays:
    return (x / len(x),)


def as_wide_as_the_longest(x: Array) -> Arrays:
    return (x[:, : max(1, int(x.max()))],)


def sample(
    model: Model,
    x: Array,
    place: int | None = None,
    *,
    cuts: Sequence[int] = (),
    kept_bytes: int = 1 << 20,
    outputs: Sequence[str] = ("y",),
) -> Sample:
    """The sample of a batch whose requests begin at 0 and at `cuts`."""
    parts = [(part,) for part in np.split(x, list(cuts))]
    result = BatchResult(model(x), 0.001 * len(x), 0.001 * len(x))
    taken = sample_of(parts, outputs, result, Choice(Random(0)), kept_bytes)
    assert taken is not None
    if place is None:
        return taken
    return Sample(taken.inputs, taken.answers, taken.outputs, place, taken.batch_rows, taken.batch_s)


def finding_of(model: Model, taken: Sample, specs: Sequence[TensorSpec] = Y) -> tuple[AuditFinding, list[int]]:
    """What the examination finds, and the rows of each run that it asked for."""
    steps = examine(taken, specs)
    runs: list[int] = []
    answer: Arrays | None = None
    while True:
        try:
            (x,) = steps.send(answer)
        except StopIteration as end:
            finding: AuditFinding = end.value
            return finding, runs
        runs.append(len(x))
        try:
            answer = model(x)
        except ValueError:
            answer = None
