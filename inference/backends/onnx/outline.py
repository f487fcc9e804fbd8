"""The outline of a graph in an ONNX file: its outputs, and the operators that make them.

Only the structure of the graph itself is read: no graphs inside its operators, and no weights.

Source: onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from sluice.inference.backends.onnx.protobuf import Field, fields_of, only, read, signed, values_of, varints_of

_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS, _ATTRIBUTE_GRAPHS = 1, 6, 8, 9, 11
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE, _INITIALIZER_NAME = 2, 1, 1, 8


class GraphOutput(msgspec.Struct, frozen=True):
    """An output of the graph. `single` is true where it declares the shape `[1]`."""

    place: Field
    name: str
    is_tensor: bool
    single: bool


class Node(msgspec.Struct, frozen=True):
    """An operator of the graph. `holds_graphs` is true for branches and loops, which may use any tensor by its name."""

    place: Field
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    holds_graphs: bool


class Nodes(msgspec.Struct, frozen=True):
    """The operators of a graph in order, the names of its tensors, and where the file declares types of tensors."""

    nodes: tuple[Node, ...]
    names: frozenset[str]
    types: dict[str, Field]

    def users(self, tensor: str) -> tuple[Node, ...]:
        """The operators that take a tensor as an input."""
        return tuple([node for node in self.nodes if tensor in node.inputs])


def graph_of(file: BinaryIO, size_bytes: int) -> Field | None:
    """The graph of a model; `None` if there is none, or more than one. Raises as `fields_of` does."""
    found = only(file, 0, size_bytes, _MODEL_GRAPH)
    return found[0] if len(found) == 1 else None


def outputs_of(file: BinaryIO, graph: Field) -> tuple[GraphOutput, ...]:
    """The graph's outputs. Raises as `fields_of` does."""
    return tuple([_output(place, read(file, place)) for place in only(file, graph.start, graph.end, _OUTPUT)])


def nodes_of(file: BinaryIO, graph: Field) -> Nodes:
    """The graph's operators. Raises as `fields_of` does."""
    nodes: list[Node] = []
    names: set[str] = set()
    types: dict[str, Field] = {}
    for place in list(fields_of(file, graph.start, graph.end)):
        if place.number == _NODE:
            node = _node(file, place)
            nodes.append(node)
            names.update(node.inputs, node.outputs)
        elif place.number == _INITIALIZER:
            names.add(_text(file, place, _INITIALIZER_NAME))
        elif place.number in (_INPUT, _OUTPUT):
            names.add(_text(file, place, _VALUE_NAME))
        elif place.number == _VALUE_INFO:
            types[_text(file, place, _VALUE_NAME)] = place
    return Nodes(tuple(nodes), frozenset(names), types)


def texts_or_numbers(file: BinaryIO, node: Node, *attributes: str) -> tuple[str, ...]:
    """The elements of the node's attributes with these names, lists of strings or of integers, as text."""
    found: list[str] = []
    for place in only(file, node.place.start, node.place.end, _NODE_ATTRIBUTE):
        parts = list(values_of(read(file, place)))
        if dict(parts).get(_ATTRIBUTE_NAME) not in [name.encode() for name in attributes]:
            continue
        for number, value in parts:
            if number == _ATTRIBUTE_INTS:
                found += [str(signed(each)) for each in ([value] if isinstance(value, int) else varints_of(value))]
            elif number == _ATTRIBUTE_STRINGS and isinstance(value, bytes):
                found.append(value.decode())
    return tuple(found)


def _output(place: Field, content: bytes) -> GraphOutput:
    parts = dict(values_of(content))
    kind = dict(values_of(_bytes(parts.get(_VALUE_TYPE))))
    dims = [
        dict(values_of(_bytes(dim))).get(_DIM_VALUE)
        for shape in [dict(values_of(_bytes(kind.get(_TYPE_TENSOR)))).get(_TENSOR_SHAPE)]
        for number, dim in values_of(_bytes(shape))
        if number == _SHAPE_DIM
    ]
    return GraphOutput(place, _bytes(parts.get(_VALUE_NAME)).decode(), _TYPE_TENSOR in kind, dims == [1])


def _node(file: BinaryIO, place: Field) -> Node:
    texts: dict[int, list[str]] = {number: [] for number in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_DOMAIN)}
    holds_graphs = False
    for part in list(fields_of(file, place.start, place.end)):
        if part.number in texts:
            texts[part.number].append(read(file, part).decode())
        elif part.number == _NODE_ATTRIBUTE:
            within = fields_of(file, part.start, part.end, (_ATTRIBUTE_INTS - 1, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS))
            holds_graphs |= any(each.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) for each in within)
    return Node(
        place,
        "".join(texts[_NODE_OPERATOR]),
        "".join(texts[_NODE_DOMAIN]),
        tuple(texts[_NODE_INPUT]),
        tuple(texts[_NODE_OUTPUT]),
        holds_graphs,
    )


def _text(file: BinaryIO, place: Field, number: int) -> str:
    return b"".join([read(file, part) for part in only(file, place.start, place.end, number)]).decode()


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""
