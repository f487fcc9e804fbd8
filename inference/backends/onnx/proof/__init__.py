"""The proof from the graph that a model keeps the rows of a batch apart. Imports no engine.

Every operator says how it treats the axis of the rows (`rules`); `following` takes what is known of the inputs through
the graph. What is not known is UNKNOWN, by name. See docs/decisions/0017-rows-are-proven-apart.md.
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
"""How long a proof may take, once the file is read."""

__all__ = ["LIMIT_S", "explain", "prove"]


class _Unprovable(Exception):
    """What a model declares leaves nothing to prove. The message says what."""


def prove(
    model_file: Path,
    outputs: Sequence[str] | None = None,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> RowsProof:
    """What the graph of a file says of the rows of the named tensors, or of all of its outputs. Raises nothing.

    MIXED and UNKNOWN name the first output that is so, and the operator that made it so.
    """
    return _examined(model_file, outputs, limit_s, clock, recorded=False)[0]


def explain(model_file: Path, outputs: Sequence[str] | None = None, limit_s: float = LIMIT_S) -> Explanation:
    """The same proof, with what is known of every tensor on the way."""
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
        # A graph that the engine takes may still be one that no rule foresaw. It is no proof, and no reason to fail.
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
    """Why an output surely does not have a row for each row; `None` where it has, or nobody knows."""
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
