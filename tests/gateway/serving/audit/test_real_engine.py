"""Audits of the real engine: its rounding never counts as mixing, in many batches."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from sluice.gateway.serving.audit.examine import Suspicions, examine
from sluice.gateway.serving.audit.sample import Choice, sample_of
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.types import Arrays, BatchResult
from tests import models

BATCHES = int(os.environ.get("SLUICE_TEST_AUDITED_BATCHES", "150"))


def _outcomes(backend: OnnxBackend, make: list[tuple[int, ...]], batches: int, scale: float) -> Counter[str]:
    rng, choice, suspicions = np.random.default_rng(1), Choice(Random(2)), Suspicions()
    names = [spec.name for spec in backend.outputs]
    outcomes: Counter[str] = Counter()
    for _ in range(batches):
        rows = int(rng.integers(2, 33))
        x: Arrays = tuple([(scale * rng.standard_normal((rows, *shape))).astype(np.float32) for shape in make])
        taken = sample_of([x], names, BatchResult(backend.run(x, names), 0.001, 0.001), choice)
        assert taken is not None
        steps = examine(taken, backend.outputs)
        answer: Arrays | None = None
        while True:
            try:
                answer = backend.run(steps.send(answer), names)
            except StopIteration as end:
                outcomes[suspicions.weigh(end.value, taken.content).outcome] += 1
                break
    return outcomes


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
@pytest.mark.parametrize(
    ("model", "shape"),
    [(models.tiny(), (4,)), (models.mlp(), (64,)), (models.half_precision(), (64,)), (models.image(), (3, 224, 224))],
    ids=["tiny", "mlp", "half precision", "image"],
)
def test_rounding_raises_no_alarm(model: bytes, shape: tuple[int, ...], scale: float, tmp_path: Path) -> None:
    backend = OnnxBackend(models.place(model, tmp_path), "cpu", 2)
    batches = BATCHES if len(shape) == 1 else BATCHES // 15
    outcomes = _outcomes(backend, [shape], batches, scale)
    assert outcomes.total() == batches
    assert set(outcomes) <= {AuditOutcome.ALIKE, AuditOutcome.NOISE}


def test_rows_that_mix_late_are_seen(tmp_path: Path) -> None:
    backend = OnnxBackend(models.place(models.mixes_late(), tmp_path), "cpu", 1)
    outcomes = _outcomes(backend, [(2,)], 40, 100.0)
    assert outcomes[AuditOutcome.MIXED] > 10
    assert set(outcomes) == {AuditOutcome.MIXED, AuditOutcome.ALIKE}
