"""Tries a model that was just loaded: afterwards it is warm, and the decision whether it is batched is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed
from sluice.inference.findings import NOT_READ, Findings, Independence, RowsProof
from sluice.inference.repository.sample import SampleFault, common_rows, read_sample
from sluice.inference.serving_plan import Batched
from sluice.inference.trial.accepted_inputs import Answered, InputsRefused, find_taken, smallest
from sluice.inference.trial.decision import RowsGrounds, decide, declared_alone, fixed_output, served, unlike_axes
from sluice.inference.trial.random_inputs import AcceptedInputs, RandomRows
from sluice.inference.trial.row_independence import answers_vary, rows_lost
from sluice.inference.trial.trial import TrialResult, try_hard, try_plain
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, Signature, TensorSpec


class Trial(msgspec.Struct, frozen=True):
    """The result: how the model is served, why, and which inputs it takes, or `None` if none were found."""

    signature: Signature
    findings: Findings
    taken: AcceptedInputs | None


def try_out(
    backend: Backend,
    batched: Batched = None,
    proof: Callable[[], RowsProof] = lambda: NOT_READ,
    sample: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Runs one row of zeros, then two, and then whatever is needed to decide whether the model is batched.

    `proof` is called once, and only if the operator has not decided. If the graph proves that rows are kept apart, the
    model is tried with two plain rows. If the graph tells nothing, it is tried hard, also with the rows of the file
    `sample`. Raises `ModelLoadError` if `batched` is true and the model cannot be batched.
    """
    one = _run(backend, _zeros(backend.inputs, rows=1), [spec.name for spec in backend.outputs])
    outputs = backend.outputs if one is None else _with_known_rank(backend.outputs, one)
    given, notes = _sample(backend, sample)
    proven = proof() if batched in (None, True) else NOT_READ
    grounds = RowsGrounds(proven, declared_alone(backend.inputs, outputs))
    if grounds.declared is None and batched is not False:
        lost = None if one is None else _rows_fail(backend, outputs, one)
        unlike = unlike_axes(backend.inputs, outputs, backend.axis_names)
        grounds = msgspec.structs.replace(grounds, lost=lost, unlike=unlike)
    stacked = grounds.declared is None and (grounds.unlike is None or proven.verdict is Independence.PROVEN)
    if given is not None and stacked and not common_rows(given):
        notes = (f"the sample was not used: {sample}: its inputs have different numbers of rows",)
        given = None
    found = find_taken(backend, given, stacked=stacked, clock=clock)
    verdict = TrialResult()
    if batched in (None, True) and grounds.declared is None:
        verdict = _verdict(backend, outputs, grounds, found, given, clock)
    together, findings = decide(batched, msgspec.structs.replace(grounds, verdict=verdict))
    erratic, timed = verdict.erratic_because, None
    if isinstance(found, InputsRefused):
        notes += (
            f"the model is neither warm nor measured, for it took nothing that it was tried with: {found.because}",
        )
    else:
        least = smallest(backend, found)
        timed = least.taken
        erratic = erratic or answers_vary(backend, outputs, least.request, least.answer)
    findings = msgspec.structs.replace(findings, erratic_because=erratic, notes=notes)
    return Trial(served(backend.inputs, outputs, batched=together), findings, timed)


def warm(backend: Backend, signature: Signature, taken: AcceptedInputs | None) -> None:
    """Runs one row of what the model takes, and two if it is batched."""
    names = [spec.name for spec in signature.outputs]
    rows = None if taken is None else RandomRows(backend.inputs, taken)
    _run(backend, _zeros(backend.inputs, 1) if rows is None else rows.request(), names)
    if signature.batched:
        _run(backend, _zeros(backend.inputs, 2) if rows is None else rows.batch(2), names)


def _verdict(
    backend: Backend,
    outputs: Sequence[TensorSpec],
    grounds: RowsGrounds,
    found: Answered | InputsRefused,
    sample: Arrays | None,
    clock: Callable[[], float],
) -> TrialResult:
    """The result of a trial with different rows; empty if a trial could change nothing."""
    if grounds.proof.verdict is Independence.MIXED or grounds.lost is not None:
        return TrialResult()
    if grounds.proof.verdict is Independence.PROVEN:
        return TrialResult() if isinstance(found, InputsRefused) else try_plain(backend, outputs, found.taken)
    if grounds.unlike is not None:
        return TrialResult()
    if isinstance(found, InputsRefused):
        return TrialResult(unknown_because=f"the model refused all rows that it was tried with: {found.because}")
    return try_hard(backend, outputs, found, sample, clock)


def _run(backend: Backend, arrays: Arrays, names: Sequence[str]) -> Arrays | None:
    try:
        return backend.run(arrays, names)
    except ModelFailed:
        return None


def _sample(backend: Backend, file: Path | None) -> tuple[Arrays | None, tuple[str, ...]]:
    """The inputs of the sample, if there is one and the model takes it, and a note if it cannot be used."""
    if file is None:
        return None, ()
    try:
        arrays = read_sample(file, backend.inputs)
        backend.run(arrays, [spec.name for spec in backend.outputs])
    except SampleFault as fault:
        return None, (f"the sample was not used: {fault}",)
    except ModelFailed as error:
        return None, (f"the sample was not used: {file}: the model refuses it: {error}",)
    return arrays, ()


def _zeros(specs: Sequence[TensorSpec], rows: int) -> Arrays:
    return tuple([_zero(spec, rows) for spec in specs])


def _zero(spec: TensorSpec, rows: int) -> Array:
    shape = [(rows if axis == 0 else 1) if size is None else size for axis, size in enumerate(spec.shape)]
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, STORAGE[spec.datatype])


def _with_known_rank(specs: Sequence[TensorSpec], arrays: Arrays) -> tuple[TensorSpec, ...]:
    """The specs, with axes of any size for outputs whose rank is known from a run only."""
    return tuple(
        [
            TensorSpec(spec.name, spec.datatype, (None,) * array.ndim) if not spec.shape else spec
            for spec, array in zip(specs, arrays, strict=True)
        ]
    )


def _rows_fail(backend: Backend, outputs: Sequence[TensorSpec], one: Arrays) -> str | None:
    """Why the outputs do not follow the rows, as zeros show; `None` if they do. A declared size is preferred."""
    lost = rows_lost(outputs, one, rows=1)
    if lost is None:
        try:
            two = backend.run(_zeros(backend.inputs, rows=2), [spec.name for spec in outputs])
        except ModelFailed as error:
            return fixed_output(outputs) or f"the model takes one row but not two: {error}"
        lost = rows_lost(outputs, two, rows=2)
    return lost and (fixed_output(outputs) or lost)
