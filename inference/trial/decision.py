"""Decides by evidence whether a model is batched. Only a proof or a good trial is enough. Does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sluice.inference.errors import ModelLoadError
from sluice.inference.findings import (
    WAYS,
    WITHOUT_TRIAL,
    Evidence,
    Findings,
    Independence,
    RowsProof,
    ways_text,
)
from sluice.inference.serving_plan import Batched
from sluice.inference.trial.trial import TrialResult
from sluice.inference.types import Signature, TensorSpec

TOLD_ALONE = "model.toml or the settings say so"


def declared_alone(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """Why the declared shapes have no common batch axis; `None` if they may have one.

    A fixed axis 0 of an output is no reason: exporters of tree ensembles declare labels of one row.
    """
    if not inputs:
        return "the model has no inputs"
    for spec in inputs:
        if not spec.shape:
            return f"input {spec.name!r} is a single value, without an axis for rows"
        if spec.shape[0] is not None:
            return f"axis 0 of input {spec.name!r} has the fixed size {spec.shape[0]}"
    for spec in outputs:
        if not spec.shape:
            return f"output {spec.name!r} is a single value, without an axis for rows"
    return None


def fixed_output(outputs: Sequence[TensorSpec]) -> str | None:
    """A sentence about the first output whose axis 0 is declared with a fixed size; `None` if there is none."""
    for spec in outputs:
        if spec.shape and spec.shape[0] is not None:
            return f"axis 0 of output {spec.name!r} has the fixed size {spec.shape[0]}"
    return None


def with_rows(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The outputs with an axis 0 of any size."""
    return tuple([TensorSpec(spec.name, spec.datatype, (None, *spec.shape[1:])) for spec in outputs])


def unlike_axes(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], axis_names: Mapping[str, str]
) -> str | None:
    """Why axis 0 need not be one batch axis, going by its names; `None` if the names do not tell.

    `axis_names` has the model's name for axis 0 of an input or output, for those that have one.
    """
    named = {spec.name: axis_names[spec.name] for spec in inputs if spec.name in axis_names}
    if len(set(named.values())) > 1:
        listed = ", ".join(f"{axis!r} of {name!r}" for name, axis in named.items())
        return f"axis 0 of the inputs has different names ({listed}), so it need not be one batch axis"
    for spec in outputs:
        axis = axis_names.get(spec.name)
        if axis is not None and axis not in named.values():
            return (
                f"axis 0 of output {spec.name!r} is {axis!r}, which is axis 0 of no input, so it need not be the rows"
            )
    return None


class RowsGrounds(msgspec.Struct, frozen=True):
    """All that a decision is based on.

    `declared` is why the shapes have no batch axis, `lost` how a run with zeros showed that there is none, and `unlike`
    why the names of the axes suggest that there is none. `verdict` is the result of the trial.
    """

    proof: RowsProof
    declared: str | None = None
    lost: str | None = None
    unlike: str | None = None
    verdict: TrialResult = TrialResult()


def decide(batched: Batched, grounds: RowsGrounds) -> tuple[bool, Findings]:
    """Whether the model is batched, and the findings. Raises `ModelLoadError` if `batched` is true and it is not."""
    together, findings = _decide(batched, grounds)
    if batched is True and not together:
        demanded = "batching.batched = true demands that requests share batches, but"
        if findings.missing is not None:
            raise ModelLoadError(f"{demanded} {findings.missing}. To have it batched, give {ways_text(findings.ways)}")
        raise ModelLoadError(
            f"{demanded} {findings.because}. Leave batching.batched unset to serve the model without batching, or set "
            'it to "unchecked" if its rows are known to be independent'
        )
    return together, findings


def _decide(batched: Batched, grounds: RowsGrounds) -> tuple[bool, Findings]:
    verdict, proof = grounds.verdict, grounds.proof
    if batched is False:
        return False, Findings(Evidence.TOLD, TOLD_ALONE)
    if grounds.declared is not None:
        return False, Findings(Evidence.DECLARED, grounds.declared)
    if batched == "unchecked":
        if grounds.lost is not None:
            return False, Findings(Evidence.TRIED, grounds.lost)
        return True, Findings(Evidence.TOLD, 'batching.batched is "unchecked"')
    if proof.verdict is Independence.MIXED:
        return False, Findings(Evidence.PROVEN, proof.because)
    influence = grounds.lost or verdict.mixed_because
    if proof.verdict is Independence.PROVEN:
        if influence is None:
            return True, Findings(Evidence.PROVEN, proof.because)
        alarm = f"the graph says that the model keeps rows apart ({proof.because}), but when it was tried: {influence}"
        return False, Findings(Evidence.TRIED, influence, alarm=alarm)
    if influence is not None:
        return False, Findings(Evidence.TRIED, influence)
    untriable = grounds.unlike or verdict.erratic_because
    if untriable is None and proof.hidden:
        untriable = "an operator takes rows together if an unknown one before it leaves them where they were"
    unknown = untriable or verdict.unknown_because
    if unknown is not None:
        because = f"it is not known whether rows influence each other: {unknown}"
        return False, Findings(
            Evidence.NONE,
            because,
            missing=f"{unknown}, and the graph does not tell: {proof.because}",
            ways=WITHOUT_TRIAL if untriable else WAYS,
        )
    return True, Findings(Evidence.TRIED, f"the model keeps rows apart: {verdict.said}")


def served(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], *, batched: bool) -> Signature:
    """The signature that is served. For a batched model, axis 0 of each output is of any size, whatever is declared."""
    return Signature(inputs, with_rows(outputs) if batched else outputs, batched)
