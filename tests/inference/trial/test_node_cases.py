"""No caller of a node test of the `onnx` package gets an answer that another caller's rows have changed.

Each operator becomes a model with a free axis, of one input or of all, and 32 callers with rows of their own ask it at
the same time. Whether they share batches is decided as in a worker. Either way, each caller gets the engine's answer to
its call alone; if the model is batched, that is also the engine's answer to each row alone, since the cache may ask so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest

from sluice.inference.backends.base import Backend
from sluice.inference.backends.onnx.model_file import random_operators
from sluice.inference.backends.onnx.proof import prove
from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.backends.onnx.tensor_outputs import tensor_outputs
from sluice.inference.errors import ModelLoadError
from sluice.inference.findings import Independence
from sluice.inference.planning.warmup import try_out
from sluice.inference.types import Arrays, Signature
from sluice.inference.workers.pool import Workers
from tests import models
from tests.inference.many_callers import Call, InProcess, Watched, alone, callers_of, difference, rows_apart, together
from tests.inference.node_cases import NodeModel, all_node_models, node_models
from tests.inference.running import ONE_WORKER

SAMPLE = (
    *("add", "argmax", "concat", "conv", "cumsum", "dynamicquantizelinear", "einsum", "expand", "flatten", "gather"),
    *("gathernd", "gemm", "layernormalization", "lstm", "matmul", "nonmaxsuppression", "nonzero", "reducemax"),
    *("reshape", "reversesequence", "roialign", "scatternd", "softmax", "tile", "topk", "transpose", "trilu"),
    *("unique", "where"),
)
"""Modules of the package, of operators that keep rows apart and of others."""

FEWEST = 4000
"""Of some 5,600 models the engine has no operator for about 700, and others refuse all rows."""

UNTOLD = ("not loaded", "random", "never answers")
"""Verdicts on models of which it is not known what is right."""


class WrongAnswers(Exception):
    """A caller got another answer than it would get alone."""


class Decided(NamedTuple):
    """How a model is to be served, and by which evidence."""

    signature: Signature
    verdict: str


def decided(backend: Backend, file: Path) -> Decided:
    """A worker's decision about a model that it has loaded, made in the same way here."""
    trial = try_out(backend, None, lambda: prove(file, tensor_outputs(file).tensors or None), clock=time.process_time)
    served = "batched" if trial.signature.batched else "alone"
    return Decided(trial.signature, f"{served}, {trial.findings.evidence}")


class Judged(NamedTuple):
    """The result for one model, and what was wrong, if anything. `shared` is true if callers shared a batch."""

    verdict: str
    fault: str | None = None
    shared: bool = False


def proven(backend: Backend, file: Path) -> Decided:
    """What the proof from the graph alone says: what is not proven is served alone."""
    proof = prove(file, tensor_outputs(file).tensors or None)
    trial = try_out(backend, "unchecked" if proof.verdict is Independence.PROVEN else False, clock=time.process_time)
    return Decided(trial.signature, str(proof.verdict))


Decision: TypeAlias = Callable[[Backend, Path], Decided]

DECISIONS = [pytest.param(proven, id="proven"), pytest.param(decided, id="decided")]


async def judged(case: NodeModel, folder: Path, decide: Decision = decided) -> Judged:
    """Serves a model in this process, and lets all callers ask it."""
    loaded = _loaded(case, folder)
    if loaded is None:
        return Judged("not loaded")
    file, backend = loaded
    if random_operators(file):
        return Judged("random")
    signature, verdict = decide(backend, file)
    calls = callers_of(case.name, case.taken, apart=case.apart)
    reference = OnnxBackend(file, "cpu", 1)
    right = [alone(reference, call) for call in calls]
    if all(answer is None for answer in right):
        return Judged("never answers")
    executor = Watched(InProcess(backend, signature))
    answers = await together(executor, signature, calls)
    fault = _wrong(signature, right, answers)
    if fault is None and signature.batched:
        fault = _wrong_by_rows(reference, signature, calls, right)
    return Judged(verdict, fault, executor.batch_jobs > 1)


async def judged_in_workers(case: NodeModel, folder: Path) -> Judged:
    """Serves a model by a worker process, which decides whether it is batched, and lets all callers ask it."""
    loaded = _loaded(case, folder)
    if loaded is None or random_operators(loaded[0]):
        return Judged("not loaded")
    file, reference = loaded
    calls = callers_of(case.name, case.taken, apart=case.apart)
    right = [alone(reference, call) for call in calls]
    async with Workers(file, ONE_WORKER, on_vacancy=lambda: None, on_restart=lambda: None) as workers:
        signature, executor = workers.signature, Watched(workers)
        fault = _wrong(signature, right, await together(executor, signature, calls))
        return Judged("batched" if signature.batched else "alone", fault, executor.batch_jobs > 1)


@pytest.mark.parametrize("decide", DECISIONS)
async def test_callers_of_some_operators_are_told_what_they_are_told_alone(decide: Decision, tmp_path: Path) -> None:
    found = {case.name: await judged(case, tmp_path, decide) for case in node_models(SAMPLE)[::4]}
    assert sum(each.shared for each in found.values()) > 50
    _hold(found)


@pytest.mark.parametrize(("axis", "verdict"), [(0, "alone"), (1, "batched")])
async def test_callers_of_a_worker_are_told_what_they_are_told_alone(axis: int, verdict: str, tmp_path: Path) -> None:
    (case,) = [case for case in node_models(["softmax"]) if case.name == f"softmax_axis_{axis}-first"]
    assert await judged_in_workers(case, tmp_path) == Judged(verdict, shared=verdict == "batched")


@pytest.mark.parametrize(("axis", "fault"), [(0, "output 'y' has other values"), (1, None)])
async def test_a_wrong_decision_would_be_seen(axis: int, fault: str | None, tmp_path: Path) -> None:
    def batched(backend: Backend, file: Path) -> Decided:
        return Decided(Signature(backend.inputs, backend.outputs, True), "tried")

    (case,) = [case for case in node_models(["softmax"]) if case.name == f"softmax_axis_{axis}-first"]
    assert await judged(case, tmp_path, batched) == Judged("tried", fault, shared=True)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("decide", DECISIONS)
async def test_callers_of_any_operator_are_told_what_they_are_told_alone(
    decide: Decision, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {case.name: await judged(case, tmp_path, decide) for case in all_node_models()}
    with capsys.disabled():
        print(f"\n{_counted(found)}")
    assert sum(each.verdict not in UNTOLD for each in found.values()) > FEWEST
    _hold(found)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_callers_of_many_workers_are_told_what_they_are_told_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {case.name: await judged_in_workers(case, tmp_path) for case in all_node_models()[::40]}
    with capsys.disabled():
        print(f"\n{_counted(found)}")
    assert sum(each.verdict == "batched" for each in found.values()) > 20
    _hold(found)


def _loaded(case: NodeModel, folder: Path) -> tuple[Path, OnnxBackend] | None:
    for model in case.models:
        file = models.place(model, folder)
        try:
            backend = OnnxBackend(file, "cpu", 1)
        except ModelLoadError:
            continue
        if len(backend.inputs) == len(case.taken):
            return file, backend
    return None


def _wrong(signature: Signature, right: Sequence[Arrays | None], answers: Sequence[Arrays | Exception]) -> str | None:
    for expected, answer in zip(right, answers, strict=True):
        if isinstance(answer, Exception):
            if expected is not None:
                return f"refused, though not alone: {answer}"
        elif expected is None:
            return "answered, though refused alone"
        elif (fault := difference(signature, expected, answer)) is not None:
            return fault
    return None


def _wrong_by_rows(
    reference: Backend, signature: Signature, calls: Sequence[Call], right: Sequence[Arrays | None]
) -> str | None:
    for call, expected in zip(calls, right, strict=True):
        if expected is None:
            continue
        rows = [alone(reference, row) for row in rows_apart(call)]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return "a row is refused alone"
        if len({tuple([array.shape for array in row]) for row in known}) > 1:
            return "the answers to rows differ in shape"
        joined = tuple([np.concatenate(arrays) for arrays in zip(*known, strict=True)])
        if (fault := difference(signature, expected, joined)) is not None:
            return f"row by row: {fault}"
    return None


def _hold(found: Mapping[str, Judged]) -> None:
    faults = [f"{name} ({each.verdict}): {each.fault}" for name, each in found.items() if each.fault is not None]
    if faults:
        raise WrongAnswers("\n".join([f"{len(faults)} of {len(found)} models", *faults]))


def _counted(found: Mapping[str, Judged]) -> str:
    verdicts = Counter(each.verdict for each in found.values())
    said = [f"{count} {verdict}" for verdict, count in verdicts.most_common()]
    shared = sum(each.shared for each in found.values())
    wrong = sum(each.fault is not None for each in found.values())
    return f"{len(found)} models: {', '.join(said)}; {shared} shared batches, {wrong} answered wrongly"
