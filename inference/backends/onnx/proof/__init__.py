"""The proof from the graph that a model keeps the rows of a batch apart. Imports no engine.

There is a rule for each operator that says how it treats the axis of the rows (`rules`). `following` applies the rules
from the inputs through the graph. If a rule is missing, the result is UNKNOWN and names the operator. See
docs/decisions/0017-rows-are-proven-apart.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sluice.inference.backends.onnx.proof.constants import batch_name, of_input
from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, Padded
from sluice.inference.backends.onnx.proof.following import (
    FollowedOperator,
    Follower,
    OutOfBounds,
    Scope,
    Setting,
    versions,
)
from sluice.inference.backends.onnx.proof.reading import Unreadable, read_structure
from sluice.inference.backends.onnx.proof.sizes import ROWS
from sluice.inference.backends.onnx.proof.structure_pb2 import Graph, Model
from sluice.inference.findings import ExplainedOperator, ExplainedTensor, Explanation, Independence, RowsProof

LIMIT_S = 2.0
"""How long a proof may take. It is checked before each operator."""

__all__ = ["LIMIT_S", "explain", "prove"]


class _Unprovable(Exception):
    """The model's declared inputs have no common batch axis. The message says why."""


def prove(
    model_file: Path,
    outputs: Sequence[str] | None = None,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> RowsProof:
    """What the graph of a file proves about the rows of the named tensors, or of all outputs. Raises nothing.

    For MIXED and UNKNOWN, `because` names the first such output, and the operator that is the reason.
    """
    return _examined(model_file, outputs, limit_s, clock, recorded=False)[0]


def explain(model_file: Path, outputs: Sequence[str] | None = None, limit_s: float = LIMIT_S) -> Explanation:
    """The same proof, with what is known about each tensor of the graph."""
    proof, steps = _examined(model_file, outputs, limit_s, time.monotonic, recorded=True)
    return Explanation(proof, tuple([_explained(step) for step in steps]))


def _examined(
    model_file: Path, outputs: Sequence[str] | None, limit_s: float, clock: Callable[[], float], *, recorded: bool
) -> tuple[RowsProof, list[FollowedOperator]]:
    began_s = clock()

    def tick() -> None:
        if clock() - began_s > limit_s:
            raise OutOfBounds(f"following its operators took more than {limit_s:g} s")

    steps: list[FollowedOperator] = []
    try:
        model = read_structure(model_file)
        follower = Follower(model, tick, recorded=recorded)
        steps = follower.steps
        scope = _followed(model, follower)
        names = [value.name for value in model.graph.output] if outputs is None else outputs
        proof = _verdict({name: scope.find(name) for name in names})
    except _Unprovable as because:
        proof = RowsProof(Independence.MIXED, str(because))
    except (Unreadable, OutOfBounds) as because:
        proof = RowsProof(Independence.UNKNOWN, f"the graph could not be followed: {because}")
    except Exception as error:
        # The engine may accept graphs that no rule foresees. There is no proof then, but the model can be loaded.
        proof = RowsProof(Independence.UNKNOWN, f"the graph could not be followed: {type(error).__name__}: {error}")
    return proof, steps


def _explained(step: FollowedOperator) -> ExplainedOperator:
    outputs = [
        ExplainedTensor(
            name,
            fact.kind.name.lower(),
            None if fact.shape is None else tuple(map(str, fact.shape)),
            str(fact),
            fact.because,
        )
        for name, fact in step.outputs
    ]
    return ExplainedOperator(step.operator, step.name, step.depth, tuple(outputs))


def _followed(model: Model, follower: Follower) -> Scope:
    graph = model.graph
    scope = Scope(_inputs(graph, follower))
    return follower.follow(graph, scope, Setting(versions(model.opset_import), {}, 0))


def _inputs(graph: Graph, follower: Follower) -> dict[str, Fact]:
    initialised = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in initialised]
    if not values:
        raise _Unprovable("the model has no inputs")
    facts: dict[str, Fact] = {}
    named: dict[str, str] = {}
    for value in values:
        fact = of_input(value, follower.symbols)
        if isinstance(fact, str):
            raise _Unprovable(fact)
        facts[value.name] = fact
        name = batch_name(value)
        if name is not None:
            named.setdefault(name, value.name)
    if len(named) > 1:
        (one, first), (other, second) = list(named.items())[:2]
        raise _Unprovable(
            f"axis 0 of input {first!r} is {one!r} and that of input {second!r} is {other!r}: "
            "they are no common batch axis"
        )
    return facts


def _verdict(outputs: dict[str, Fact]) -> RowsProof:
    doubts: list[RowsProof] = []
    for name, fact in outputs.items():
        if (because := _not_rows(name, fact)) is not None:
            return RowsProof(Independence.MIXED, because)
        if fact.kind is Dependence.UNKNOWN:
            doubts.append(RowsProof(Independence.UNKNOWN, f"output {name!r}: {fact.because}", fact.hidden))
    if doubts:
        return max(doubts, key=lambda doubt: doubt.hidden)
    return RowsProof(Independence.PROVEN, "every operator between the inputs and the outputs keeps rows apart")


def _not_rows(name: str, fact: Fact) -> str | None:
    """Why an output surely does not have a row for each row of the inputs; `None` if it has, or that is not known."""
    match fact.kind:
        case Dependence.UNKNOWN:
            return None
        case Dependence.MIXED:
            return f"output {name!r}: {fact.because}"
        case Dependence.CONSTANT:
            return f"output {name!r} is the same whatever the rows are, and has no row for each of them"
        case Dependence.COUNT:
            return f"output {name!r} depends on how many rows there are"
    assert fact.shape is not None
    if fact.axis != 0:
        return f"output {name!r} has the rows along axis {fact.axis}, and not along axis 0"
    if fact.shape[0] != ROWS:
        return f"axis 0 of output {name!r} is {fact.shape[0]}, of N rows"
    if isinstance(fact.mark, Padded):
        return f"output {name!r} is as wide as the longest row of the batch"
    return None if fact.plain else f"output {name!r} has the places of rows in the batch"
