"""Recurrent operators and attention: [steps, batch, features], or the batch first."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, like
from sluice.inference.backends.onnx.proof.rules.picking import same_rows
from sluice.inference.backends.onnx.proof.sizes import ONE, Size

_WEIGHTS = (1, 2, 3)
_LENGTHS = 4
_STATES = (5, 6)


def _recurrent(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if len(shape) != 3:
        raise Unclear(f"takes three axes, not {len(shape)}")
    batch_first = operation.flag("layout")
    batch_axis = 0 if batch_first else 1
    for place in (*_WEIGHTS, 7):
        operation.same_for_all(place, "the weights")
    if fact.kind is Dependence.ROWS and fact.axis != batch_axis:
        raise Mixes("takes the rows for steps, one after another")
    others = [(operation.input(_LENGTHS), 0), *[(operation.input(place), batch_axis) for place in _STATES]]
    for other, axis in others[: 2 if operation.name != "LSTM" else 3]:
        _check(fact, other, axis)
    steps = shape[1 if batch_first else 0]
    batch, directions = shape[batch_axis], Size(2 if operation.text("direction") == "bidirectional" else 1)
    hidden = Size(operation.integer("hidden_size")) if operation.has("hidden_size") else operation.symbols.fresh()
    if batch_first:
        each, last = (batch, steps, directions, hidden), (batch, directions, hidden)
        return [like(fact, each, 0), *[like(fact, last, 0) for _ in range(operation.outputs - 1)]]
    each, last = (steps, directions, batch, hidden), (directions, batch, hidden)
    return [like(fact, each, 2), *[like(fact, last, 1) for _ in range(operation.outputs - 1)]]


def _check(fact: Fact, other: Fact | None, axis: int) -> None:
    """Raises `Mixes` or `Unclear` unless lengths or initial states, if they are given, are one for each row."""
    if other is None:
        return
    if other.kind is not fact.kind:
        raise Unclear("has first states or lengths for another number of rows")
    if other.kind is Dependence.ROWS:
        assert fact.shape is not None
        assert other.shape is not None
        if other.axis != axis:
            raise Mixes("has first states or lengths whose rows are along another axis")
        if other.outer != fact.outer or other.shape[axis] != fact.shape[fact.axis]:
            raise Unclear("has first states or lengths for another number of rows")


def _attention(operation: Operation) -> Sequence[Fact]:
    """[batch, heads, steps, features] or [batch, steps, features]: each row attends to itself."""
    facts = [operation.shaped(place) for place in range(3)]
    mask = operation.input(3)
    if any([operation.input(place) is not None for place in (4, 5, 6)]) or operation.outputs > 1:
        raise Unclear("keeps keys and values of earlier calls, which is not followed")
    kinds = {fact.kind for fact, _ in facts}
    if kinds == {Dependence.CONSTANT} and mask is None:
        return [Fact(Dependence.CONSTANT)]
    if kinds != {Dependence.ROWS} or any([fact.axis != 0 for fact, _ in facts]):
        raise Mixes("attends to what has no rows, or has them along another axis")
    same_rows([fact for fact, _ in facts])
    (query, shape), (_, value_shape) = facts[0], facts[2]
    if mask is not None:
        _check_mask(query, mask)
    if len(shape) == 3:
        heads, value_heads = operation.integer("q_num_heads", 1), operation.integer("kv_num_heads", 1)
        per_head = value_shape[-1].over(Size(value_heads))
        width = operation.symbols.fresh() if per_head is None else per_head.times(Size(heads))
        return [rows([*shape[:-1], width], 0, query.outer)]
    return [rows([*shape[:-1], value_shape[-1]], 0, query.outer)]


def _check_mask(query: Fact, mask: Fact) -> None:
    """Checks a mask, which is broadcast to [batch, heads, steps, steps] from its last axes on."""
    if mask.shape is None:
        raise Unclear("has a mask of unknown rank")
    assert query.shape is not None
    if mask.kind is Dependence.ROWS:
        if mask.axis != len(mask.shape) - 4 or mask.shape[mask.axis] != query.shape[0] or mask.outer != query.outer:
            raise Mixes("has a mask whose rows are along another axis than the batch")
    elif mask.kind is not Dependence.CONSTANT or (len(mask.shape) > 3 and mask.shape[-4] != ONE):
        raise Mixes("has a mask for another number of rows")


RULES: OperatorRules = {
    **{name: Rule(_recurrent) for name in ("LSTM", "GRU", "RNN")},
    "Attention": Rule(_attention),
}
