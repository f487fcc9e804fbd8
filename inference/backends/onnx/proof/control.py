"""Branches and loops: operators that hold graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, computed, constant, count, rows, unknown
from sluice.inference.backends.onnx.proof.operation import Mixes, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.sizes import ROWS, Size, Symbols
from sluice.inference.backends.onnx.proof.structure_pb2 import Attribute, Graph, Node

MOST_PASSES = 8
"""How often the body of a loop is followed at most, until its facts do not change any more."""


class Block(msgspec.Struct, frozen=True):
    """An operator with graphs in it.

    `follow(graph, facts, alone)` gives the facts of a graph's outputs from the `facts` of its inputs; with `alone`, it
    must not read rows of the graph around it. `label` is unique for each operator.
    """

    label: str
    opset: int
    attributes: Mapping[str, Attribute]
    inputs: Sequence[Fact | None]
    outputs: int
    symbols: Symbols
    follow: Callable[[Graph, dict[str, Fact], bool], list[Fact]]


def _branches(block: Block) -> Sequence[Fact]:
    (condition,) = _whole(block.inputs[:1], "chooses for all rows by what stands in one of them")
    ways = [block.attributes[name].g for name in ("then_branch", "else_branch") if name in block.attributes]
    if len(ways) != 2:
        raise Unclear("has not two branches")
    if condition.content is not None and len(condition.content) == 1 and isinstance(condition.content[0], bool):
        return block.follow(ways[0 if condition.content[0] else 1], {}, False)
    one, other = (block.follow(way, {}, False) for way in ways)
    return [
        joined(block.symbols, f"{block.label}.{place}", *pair)
        for place, pair in enumerate(zip(one, other, strict=False))
    ]


def _whole(facts: Sequence[Fact | None], doing: str) -> list[Fact]:
    """The facts of inputs that decide for all rows. Raises `Mixes` if one depends on rows, or on their number."""
    found = []
    for fact in facts:
        if fact is None:
            continue
        if fact.kind in (Dependence.ROWS, Dependence.COUNT):
            raise Mixes(doing if fact.kind is Dependence.ROWS else f"{doing}, or how many there are")
        found.append(fact)
    return found


def _without_marks(block: Block) -> None:
    """Raises `Mixes` if an input of a loop has a mark."""
    if any([fact is not None and not fact.plain for fact in block.inputs]):
        raise Mixes("is a loop that takes in the places of rows, or their fillers")


def joined(symbols: Symbols, label: str, one: Fact, other: Fact) -> Fact:
    """What is known about a tensor that is either of two."""
    if one == other:
        return one
    worst = max(one, other, key=lambda fact: int(fact.kind))
    if worst.kind >= Dependence.UNKNOWN:
        return msgspec.structs.replace(worst, shape=None)
    if Dependence.COUNT in (one.kind, other.kind):
        return (
            count(None) if Dependence.ROWS not in (one.kind, other.kind) else unknown("may have rows, or their number")
        )
    if one.kind is not other.kind:
        return unknown("has rows, or is the same for all")
    shape = _joined_shape(symbols, label, one, other)
    if one.kind is Dependence.CONSTANT:
        return constant(shape)
    marks = [(fact.mark, fact.axis, fact.outer) for fact in (one, other)]
    if shape is None or marks[0] != marks[1]:
        return unknown("has rows along one axis or another")
    return msgspec.structs.replace(rows(shape, one.axis, one.outer), mark=one.mark)


def _joined_shape(symbols: Symbols, label: str, one: Fact, other: Fact) -> list[Size] | None:
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return None
    return [
        a if a == b else symbols.of("joined", label, axis)
        for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True))
    ]


def _settled(
    block: Block, body: Graph, states: list[Fact], first: int, make: Callable[[list[Fact]], dict[str, Fact]]
) -> tuple[list[Fact], list[Fact]]:
    """The facts of a loop's states for any number of passes, and those of its body's outputs."""
    began = states
    for _ in range(MOST_PASSES):
        outputs = block.follow(body, make(states), False)
        after = [
            joined(block.symbols, f"{block.label}.{place}", computed(state), given)
            for place, (state, given) in enumerate(zip(states, outputs[first:], strict=False))
        ]
        after = [computed(fact) for fact in after]
        if after == states:
            return _last(block, began, outputs[first : first + len(states)]), outputs
        states = after
    raise Unclear("is a loop whose tensors go on changing their kind")


def _last(block: Block, began: Sequence[Fact], given: Sequence[Fact]) -> list[Fact]:
    """The facts of a loop's states after it: as before it, or as its last pass leaves them, in any size."""
    if any([not fact.plain for fact in given]):
        raise Mixes("is a loop that hands on the places of rows, or their fillers")
    return [
        computed(joined(block.symbols, f"{block.label} behind.{place}", computed(one), computed(other)))
        for place, (one, other) in enumerate(zip(began, given, strict=True))
    ]


def _loop(block: Block) -> Sequence[Fact]:
    _whole(block.inputs[:2], "goes round for all rows as often as one of them says")
    _without_marks(block)
    body = block.attributes["body"].g
    states = [fact for fact in block.inputs[2:] if fact is not None]
    names = [value.name for value in body.input]
    if len(names) != 2 + len(states) or len(states) != len(block.inputs[2:]):
        raise Unclear("is a loop that leaves inputs out")

    def inside(now: list[Fact]) -> dict[str, Fact]:
        return dict(zip(names, [constant(()), constant(()), *now], strict=True))

    states = [computed(state) for state in states]
    states, outputs = _settled(block, body, states, 1, inside)
    if outputs and outputs[0].kind is not Dependence.CONSTANT:
        if outputs[0].kind is Dependence.UNKNOWN:
            raise Unclear("repeats for as long as an operator says that is not known here")
        raise Mixes("goes round for all rows until one of them says otherwise")
    passes = block.symbols.of("passes", block.label)
    return [*states, *[_stacked(fact, 0, passes) for fact in outputs[1 + len(states) :]]]


def _stacked(fact: Fact, axis: int, passes: Size) -> Fact:
    """The fact of a body's outputs from all passes, stacked along a new axis."""
    if fact.shape is None or fact.kind >= Dependence.UNKNOWN:
        return msgspec.structs.replace(fact, shape=None, content=None)
    place = axis_of(axis, len(fact.shape) + 1)
    whole = (*fact.shape[:place], passes, *fact.shape[place:])
    return like(fact, whole, fact.axis + (fact.kind is Dependence.ROWS and place <= fact.axis))


def _scan(block: Block) -> Sequence[Fact]:
    if block.opset < 9:
        raise Unclear("is a Scan of before opset 9, which is not followed")
    _without_marks(block)
    body = block.attributes["body"].g
    count_scanned = block.attributes["num_scan_inputs"].i if "num_scan_inputs" in block.attributes else 0
    inputs = [fact for fact in block.inputs if fact is not None]
    names = [value.name for value in body.input]
    if len(names) != len(inputs) or not 0 < count_scanned <= len(inputs):
        raise Unclear("is a Scan that leaves inputs out")
    states, scanned = inputs[: len(inputs) - count_scanned], inputs[len(inputs) - count_scanned :]
    axes = _integers(block, "scan_input_axes") or [0] * count_scanned
    out_axes = _integers(block, "scan_output_axes") or [0] * (block.outputs - len(states))
    if any([fact.shape is None for fact in scanned]):
        raise Unclear("steps through a tensor of unknown rank")
    places = [axis_of(axis, len(fact.shape or ())) for fact, axis in zip(scanned, axes, strict=True)]
    if any([fact.kind is Dependence.ROWS and fact.axis == axis for fact, axis in zip(scanned, places, strict=True)]):
        return _row_by_row(block, body, names, states, scanned, places, out_axes)
    slices = [_sliced(fact, axis) for fact, axis in zip(scanned, places, strict=True)]

    def inside(now: list[Fact]) -> dict[str, Fact]:
        return dict(zip(names, [*now, *slices], strict=True))

    states = [computed(state) for state in states]
    states, outputs = _settled(block, body, states, 0, inside)
    assert scanned[0].shape is not None
    passes = scanned[0].shape[places[0]]
    stacked = zip(outputs[len(states) :], out_axes, strict=False)
    return [*states, *[_stacked(fact, axis, passes) for fact, axis in stacked]]


def _sliced(fact: Fact, axis: int) -> Fact:
    assert fact.shape is not None
    whole = [size for place, size in enumerate(fact.shape) if place != axis]
    return like(fact, whole, fact.axis - (fact.kind is Dependence.ROWS and axis < fact.axis))


def _row_by_row(
    block: Block,
    body: Graph,
    names: Sequence[str],
    states: Sequence[Fact],
    scanned: Sequence[Fact],
    axes: Sequence[int],
    out_axes: Sequence[int],
) -> Sequence[Fact]:
    """A Scan that steps through the rows and does not change its states, so each step handles one row by itself."""
    if any([*(_integers(block, "scan_input_directions") or []), *(_integers(block, "scan_output_directions") or [])]):
        raise Mixes("turns the rows round")
    for fact, axis in zip(scanned, axes, strict=True):
        if fact.kind is not Dependence.ROWS or fact.axis != axis or fact.shape is None or fact.shape[axis] != ROWS:
            raise Unclear("steps through rows and through something else")
    handed_on = {name: node.input[0] for node in body.node if _hands_on(node) for name in node.output}
    for place, state in enumerate(states):
        given = body.output[place].name
        if handed_on.get(given, given) != names[place] or state.kind is not Dependence.CONSTANT:
            raise Mixes("steps through the rows, and takes something on from each to the next")
    slices = [
        constant([size for place, size in enumerate(fact.shape or ()) if place != axis])
        for fact, axis in zip(scanned, axes, strict=True)
    ]
    outputs = block.follow(body, dict(zip(names, [*states, *slices], strict=True)), True)
    named = {symbol for fact in slices for size in fact.shape or () for symbol in size.symbols}
    found = list(states)
    for fact, axis in zip(outputs[len(states) :], out_axes, strict=False):
        if any([symbol not in named for size in fact.shape or () for symbol in size.symbols]):
            raise Unclear("gives tensors of sizes that may be others for each row")
        found.append(_of_each_row(fact, axis))
    return found


def _hands_on(node: Node) -> bool:
    return node.op_type == "Identity" and node.domain in ("", "ai.onnx")


def _of_each_row(fact: Fact, axis: int) -> Fact:
    if fact.kind is not Dependence.CONSTANT:
        return msgspec.structs.replace(fact, shape=None, content=None)
    if fact.shape is None:
        raise Unclear("gives tensors of unknown rank for each row")
    place = axis_of(axis, len(fact.shape) + 1)
    return rows([*fact.shape[:place], ROWS, *fact.shape[place:]], place)


def _integers(block: Block, name: str) -> list[int] | None:
    attribute = block.attributes.get(name)
    return None if attribute is None else list(attribute.ints)


Operator: TypeAlias = Callable[[Block], Sequence[Fact]]

OPERATORS: Mapping[str, Operator] = {"If": _branches, "Loop": _loop, "Scan": _scan}
