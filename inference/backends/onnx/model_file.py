"""Reads from an ONNX file what the engine does not report.

That is: which other files hold weights, which inputs have no shape, and which operators draw random numbers. Only the
structure is read; weights, which may be gigabytes, are skipped.

Source: onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from sluice.inference.backends.onnx.protobuf import Field, fields_of, only, read

# The messages that lead to external data, by field number.
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

# The messages that lead to every operator, including those of functions, and of graphs inside loops and branches.
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
"""Operators that draw random numbers: ONNX's own, and those of ONNX Runtime. A seed makes no difference: it is set
once for a session, and each run continues where the last one ended."""

DROPOUT = "Dropout"
TRAINING_MODE = 2
"""The input of a Dropout that makes it drop elements. Its value may not be known, so it counts if it is there."""

# An attribute has values of one kind. After the first field of one of these lists there are no tensors, but there may
# be millions of such fields.
_ATTRIBUTE_LISTS = (7, 8, 9)


def external_files(model_file: Path) -> tuple[str, ...]:
    """The files that hold weights of the model, by its names for them, relative to its folder.

    Empty for a file that is no ONNX model: the engine reports that when it loads it. Raises `OSError`.
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
                fields = [field for field in fields_of(file, start, end, last) if field.number in within]
                pending += [(within[field.number], field.start, field.end) for field in fields]
        except (ValueError, EOFError):
            return ()
    return tuple(sorted(found))


def shapeless_inputs(model_file: Path) -> frozenset[str]:
    """The names of the inputs that declare no shape. A single value, of the shape `[]`, is not one of them."""
    found: set[str] = set()
    with model_file.open("rb") as file:
        try:
            for graph in only(file, 0, model_file.stat().st_size, _MODEL_GRAPH):
                for value in only(file, graph.start, graph.end, _GRAPH_INPUT):
                    name = b"".join([read(file, each) for each in only(file, value.start, value.end, _INPUT_NAME)])
                    tensors = [
                        tensor
                        for kind in only(file, value.start, value.end, _INPUT_TYPE)
                        for tensor in only(file, kind.start, kind.end, _TYPE_TENSOR)
                    ]
                    if not any(only(file, tensor.start, tensor.end, _TENSOR_SHAPE) for tensor in tensors):
                        found.add(name.decode())
        except (ValueError, EOFError):
            return frozenset()
    return frozenset(found)


def random_operators(model_file: Path) -> tuple[str, ...]:
    """The kinds of operators that draw random numbers, anywhere in the model, in alphabetical order.

    Empty for a file that is no ONNX model, and for one that cannot be read.
    """
    found: set[str] = set()
    try:
        with model_file.open("rb") as file:
            pending = [("Model", 0, model_file.stat().st_size)]
            while pending:
                message, start, end = pending.pop()
                fields = list(fields_of(file, start, end, _ATTRIBUTE_LISTS if message == "Attribute" else ()))
                if message == "Node":
                    found |= _draws(file, fields)
                within = _TO_NODES[message]
                pending += [
                    (within[field.number], field.start, field.end) for field in fields if field.number in within
                ]
    except (OSError, ValueError, EOFError):
        return ()
    return tuple(sorted(found))


def _draws(file: BinaryIO, node: Sequence[Field]) -> set[str]:
    """The operator of a node if it draws random numbers, else nothing."""
    operator = b"".join([read(file, field) for field in node if field.number == _NODE_OPERATOR]).decode()
    inputs = [field for field in node if field.number == _NODE_INPUT]
    trains = operator == DROPOUT and len(inputs) > TRAINING_MODE and bool(read(file, inputs[TRAINING_MODE]))
    return {operator} if operator in RANDOM or trains else set()


def _entry(file: BinaryIO, start: int, end: int) -> tuple[str, str]:
    texts = {field.number: field for field in fields_of(file, start, end)}
    key, value = (read(file, texts[each]).decode() if each in texts else "" for each in (_KEY, _VALUE))
    return key, value
