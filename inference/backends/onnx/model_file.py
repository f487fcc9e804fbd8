"""What an ONNX file says of itself that the engine does not tell.

That is which files beside it hold weights, which inputs have no shape, and which operators draw random numbers. Only
the structure is read: weights, which may be gigabytes, are skipped.

Source: onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) and the encoding of protocol buffers
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5

# The messages on the way to external data, by the numbers of their fields.
_WITHIN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "ExternalData"},
}
_MODEL_GRAPH, _GRAPH_INPUT, _INPUT_NAME, _INPUT_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE = 7, 11, 1, 2, 1, 2
_KEY, _VALUE = 1, 2

# The messages on the way to every operator: those of functions, and of the graphs that loops and branches hold, too.
_TO_NODES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node"},
    "Graph": {1: "Node"},
    "Node": {5: "Attribute"},
    "Attribute": {6: "Graph", 11: "Graph"},
}
_NODE_INPUT, _NODE_OPERATOR = 1, 4

RANDOM = frozenset(
    {
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("BiasDropout", "BitmaskBiasDropout", "BitmaskDropout", "Sampling"),
    }
)
"""Operators that draw random numbers: ONNX's own, and those that ONNX Runtime adds. A seed changes nothing: it is set
once per session, and each run goes on from where the last one ended."""

DROPOUT = "Dropout"
TRAINING_MODE = 2
"""Which input of a Dropout makes it drop elements. A file need not say whether it is true; being there is enough."""

# An attribute has values of one kind: after the first of these no tensors come, but there may be millions like it.
_ATTRIBUTE_LISTS = (7, 8, 9)


class _Field(NamedTuple):
    """A field that has a length, and where its content lies in the file."""

    number: int
    start: int
    end: int


def external_files(model_file: Path) -> tuple[str, ...]:
    """The files that hold weights of the model, as it names them, relative to its folder.

    Empty for a file that is no ONNX model: the engine will say so.
    """
    if not model_file.is_file():
        return ()
    found: set[str] = set()
    with model_file.open("rb") as file:
        pending = [("Model", 0, model_file.stat().st_size)]
        try:
            while pending:
                message, start, end = pending.pop()
                if message == "ExternalData":
                    key, value = _entry(file, start, end)
                    if key == "location":
                        found.add(value)
                    continue
                within = _WITHIN[message]
                last = _ATTRIBUTE_LISTS if message == "Attribute" else ()
                fields = [field for field in _fields(file, start, end, last) if field.number in within]
                pending += [(within[field.number], field.start, field.end) for field in fields]
        except (ValueError, EOFError):
            return ()
    return tuple(sorted(found))


def shapeless_inputs(model_file: Path) -> frozenset[str]:
    """The names of the inputs that declare no shape, which is not the shape `[]` of a single value."""
    found: set[str] = set()
    with model_file.open("rb") as file:
        try:
            for graph in _only(file, 0, model_file.stat().st_size, _MODEL_GRAPH):
                for value in _only(file, graph.start, graph.end, _GRAPH_INPUT):
                    name = b"".join([_read(file, each) for each in _only(file, value.start, value.end, _INPUT_NAME)])
                    tensors = [
                        tensor
                        for kind in _only(file, value.start, value.end, _INPUT_TYPE)
                        for tensor in _only(file, kind.start, kind.end, _TYPE_TENSOR)
                    ]
                    if not any(_only(file, tensor.start, tensor.end, _TENSOR_SHAPE) for tensor in tensors):
                        found.add(name.decode())
        except (ValueError, EOFError):
            return frozenset()
    return frozenset(found)


def random_operators(model_file: Path) -> tuple[str, ...]:
    """The kinds of operators that draw random numbers, in alphabetical order, wherever in the model they stand.

    Empty for a file that is no ONNX model, and for one that cannot be read any more.
    """
    found: set[str] = set()
    try:
        with model_file.open("rb") as file:
            pending = [("Model", 0, model_file.stat().st_size)]
            while pending:
                message, start, end = pending.pop()
                fields = list(_fields(file, start, end, _ATTRIBUTE_LISTS if message == "Attribute" else ()))
                if message == "Node":
                    found |= _draws(file, fields)
                within = _TO_NODES[message]
                pending += [
                    (within[field.number], field.start, field.end) for field in fields if field.number in within
                ]
    except (OSError, ValueError, EOFError):
        return ()
    return tuple(sorted(found))


def _draws(file: BinaryIO, node: Sequence[_Field]) -> set[str]:
    """The operator of a node, if it draws random numbers."""
    operator = b"".join([_read(file, field) for field in node if field.number == _NODE_OPERATOR]).decode()
    inputs = [field for field in node if field.number == _NODE_INPUT]
    trains = operator == DROPOUT and len(inputs) > TRAINING_MODE and bool(_read(file, inputs[TRAINING_MODE]))
    return {operator} if operator in RANDOM or trains else set()


def _entry(file: BinaryIO, start: int, end: int) -> tuple[str, str]:
    texts = {field.number: field for field in _fields(file, start, end)}
    key, value = (_read(file, texts[each]).decode() if each in texts else "" for each in (_KEY, _VALUE))
    return key, value


def _only(file: BinaryIO, start: int, end: int, number: int) -> list[_Field]:
    return [field for field in _fields(file, start, end) if field.number == number]


def _fields(file: BinaryIO, start: int, end: int, last: Sequence[int] = ()) -> Iterator[_Field]:
    """The fields with a length, in their order, up to one of the numbers `last`.

    Raises `ValueError` or `EOFError` for what is no message.
    """
    at = start
    while at < end:
        file.seek(at)
        tag = _varint(file)
        kind, number = tag & 7, tag >> 3
        if number == 0:
            raise ValueError("there is no field 0")
        if number in last:
            return
        if kind == _DELIMITED:
            size = _varint(file)
            begin = file.tell()
            at = begin + size
            if at > end:
                raise EOFError
            yield _Field(number, begin, at)
        elif kind == _VARINT:
            _varint(file)
            at = file.tell()
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at = file.tell() + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"there is no kind of field {kind}")


def _read(file: BinaryIO, field: _Field) -> bytes:
    file.seek(field.start)
    return file.read(field.end - field.start)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while shift < 70:
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("an integer of more than ten bytes")
