"""The output of `sluice profile --explain`: operator by operator, whether the rows of a batch are kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sluice.gateway.commands.profile.measure import picked
from sluice.inference.errors import StartError
from sluice.inference.findings import ExplainedOperator, ExplainedTensor, Explanation, Independence
from sluice.inference.repository.scan import ModelVersion, ScannedRepository

_SAID = {
    Independence.PROVEN: "the rows of a batch are proven apart",
    Independence.MIXED: "the rows of a batch are not apart",
    Independence.UNKNOWN: "the graph does not tell whether the rows of a batch are apart",
}


def explain_models(there: ScannedRepository, name: str | None, say: Callable[[str], None], *, as_json: bool) -> None:
    """Shows what the graphs of the models prove, or that of the named one.

    Raises `StartError` for broken models, after the others are shown.
    """
    sources, broken = picked(there, name)
    found = [(source, source.engine.explain(source.file)) for source in sources]
    if as_json and found:
        say(json.dumps([as_fields(source, each) for source, each in found], indent=2))
    elif not as_json:
        for place, (source, each) in enumerate(found):
            say(("\n" if place else "") + as_text(source, each))
    if broken:
        raise StartError("\n".join(broken))


def as_text(source: ModelVersion, explanation: Explanation) -> str:
    """A line for each output of each operator, indented by its depth in loops and functions."""
    proof = explanation.proof
    told: set[str] = set()
    cells = [
        (_operator(step), output.name, _known(output, told)) for step in explanation.steps for output in step.outputs
    ]
    widths = [max([len(row[column]) for row in cells], default=0) for column in range(2)]
    lines = [f"{operator:{widths[0]}}  {output:{widths[1]}}  {known}" for operator, output, known in cells]
    head = f"{source.name}, version {source.version}: {_SAID[proof.verdict]}"
    return "\n".join([head, f"  {proof.because}", *[f"  {line}" for line in lines]])


def as_fields(source: ModelVersion, explanation: Explanation) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "model": source.name,
        "version": source.version,
        "verdict": str(explanation.proof.verdict),
        "because": explanation.proof.because,
        "operators": [_fields(step) for step in explanation.steps],
    }


def _known(tensor: ExplainedTensor, told: set[str]) -> str:
    """What is known, in words. A reason that was told already comes from further up; one that was not begins here."""
    if not tensor.because:
        return tensor.known
    if tensor.because in told:
        return f"{tensor.kind}, from above"
    told.add(tensor.because)
    return f"{tensor.known}  <- from here on"


def _operator(step: ExplainedOperator) -> str:
    return f"{'  ' * step.depth}{step.operator}{f' {step.name!r}' if step.name else ''}"


def _fields(step: ExplainedOperator) -> dict[str, Any]:
    outputs: Sequence[dict[str, Any]] = [
        {
            "name": output.name,
            "kind": output.kind,
            "shape": None if output.shape is None else list(output.shape),
            "known": output.known,
        }
        for output in step.outputs
    ]
    return {"operator": step.operator, "name": step.name, "depth": step.depth, "outputs": outputs}
