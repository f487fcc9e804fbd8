"""Which tensors are served for the outputs of a file. Responses carry only tensors; some models give something else.

Classifiers of scikit-learn and LightGBM are exported with a ZipMap at the end, which makes a map from class to
probability for each row; those with several outputs have a SequenceConstruct. These operators are left out: their
inputs are served under the output's name. The file is not changed; the engine is given an edited copy in memory.

Source: https://github.com/onnx/onnx/blob/main/docs/Operators-ml.md, ZipMap; Operators.md, SequenceConstruct
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from sluice.inference.backends.onnx.outline import (
    GraphOutput,
    Node,
    Nodes,
    graph_of,
    nodes_of,
    outputs_of,
    texts_or_numbers,
)
from sluice.inference.backends.onnx.protobuf import Field, head, written

_ML = "ai.onnx.ml"
_DEFAULT_DOMAINS = ("", "ai.onnx")
_CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})
_NODE, _OUTPUT, _NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _VALUE_NAME = 1, 12, 1, 2, 4, 1
_PIECE_BYTES = 1 << 20


class TensorOutput(msgspec.Struct, frozen=True):
    """An output as it is served.

    `tensor` is the tensor of the file's graph that has its values. `classes` are the names of its columns, if the file
    has them. `shape` is set for an output whose shape the engine cannot tell.
    """

    name: str
    tensor: str
    classes: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()


class Edit(msgspec.Struct, frozen=True):
    """Replaces the bytes of the file from `begins` to `ends`."""

    begins: int
    ends: int
    content: bytes


class TensorOutputs(msgspec.Struct, frozen=True):
    """The outputs that are served, in order, and how the file must be edited for the engine to give them.

    Without `edits` the file is used unchanged. `added` is appended to its graph. `notes` say in plain words how the
    served outputs differ from the file's. A file that is no ONNX model has no outputs here: the engine reports that, as
    it reports outputs that are no tensors.
    """

    outputs: tuple[TensorOutput, ...] = ()
    notes: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    added: bytes = b""

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors of the file's own graph that have the outputs' values."""
        return tuple([output.tensor for output in self.outputs])


def tensor_outputs(model_file: Path) -> TensorOutputs:
    """What is served for a file. Raises nothing. Operators are read only if an output cannot be served unchanged."""
    try:
        with model_file.open("rb") as file:
            graph = graph_of(file, model_file.stat().st_size)
            if graph is None:
                return TensorOutputs()
            outputs = outputs_of(file, graph)
            if all(output.is_tensor and not output.single for output in outputs):
                return TensorOutputs(tuple([_as_it_is(output) for output in outputs]))
            return _Decision(file, nodes_of(file, graph)).of(outputs)
    except (OSError, ValueError, EOFError):
        return TensorOutputs()


def edited(model_file: Path, shown: TensorOutputs) -> bytes:
    """The edited model, for the engine. Raises `OSError`, `ValueError` or `EOFError` if the file has changed."""
    size = model_file.stat().st_size
    with model_file.open("rb") as file:
        graph = graph_of(file, size)
        if graph is None:
            raise ValueError("there is no graph any more")
        change = sum([len(edit.content) - (edit.ends - edit.begins) for edit in shown.edits]) + len(shown.added)
        model = BytesIO()
        _copy(file, model, 0, graph.begins)
        model.write(head(graph.number, graph.end - graph.start + change))
        at = graph.start
        for edit in shown.edits:
            _copy(file, model, at, edit.begins)
            model.write(edit.content)
            at = edit.ends
        _copy(file, model, at, graph.end)
        model.write(shown.added)
        _copy(file, model, graph.end, size)
        return model.getvalue()


class _Decision:
    """Decides for each output of one graph how it is served, and collects the edits."""

    def __init__(self, file: BinaryIO, nodes: Nodes) -> None:
        self._file = file
        self._nodes = nodes
        self._makers = {tensor: node for node in nodes.nodes for tensor in node.outputs}
        self._names = set(nodes.names)
        self._edits: dict[Field, bytes] = {}
        self._added = b""
        self._notes: list[str] = []

    def of(self, outputs: Iterable[GraphOutput]) -> TensorOutputs:
        served = [each for output in outputs for each in self._served(output)]
        edits = [Edit(place.begins, place.end, self._edits[place]) for place in sorted(self._edits, key=_begins)]
        return TensorOutputs(tuple(served), tuple(self._notes), tuple(edits), self._added)

    def _served(self, output: GraphOutput) -> list[TensorOutput]:
        node, way = self._origin(output.name, ("Identity",) if not output.is_tensor else ("Identity", "Cast"))
        if node is None:
            return [_as_it_is(output)]
        if output.is_tensor:
            named = node.domain == _ML and node.operator in _CLASSIFIERS and node.outputs[0] == way[-1]
            return [self._label(output, way)] if output.single and named else [_as_it_is(output)]
        if (node.domain, node.operator) == (_ML, "ZipMap"):
            return [self._without_maps(output, node, way)]
        if node.domain in _DEFAULT_DOMAINS and node.operator == "SequenceConstruct":
            return self._members(output, node)
        return [_as_it_is(output)]

    def _origin(self, tensor: str, through: tuple[str, ...]) -> tuple[Node | None, list[str]]:
        """The operator that makes a tensor, behind operators that only pass it on, and the tensors in between."""
        way = [tensor]
        node = self._makers.get(tensor)
        while node is not None and node.domain in _DEFAULT_DOMAINS and node.operator in through:
            tensor = node.inputs[0]
            if tensor in way:  # a circle: no valid model
                return None, way
            way.append(tensor)
            node = self._makers.get(tensor)
        return node, way

    def _label(self, output: GraphOutput, way: list[str]) -> TensorOutput:
        """Corrects a shape: LightGBM's converter declares `[1]` for an output with a class for each row."""
        self._retype(output, way)
        self._notes.append(f"output {output.name!r} declares the shape [1], and has a class for each row")
        return TensorOutput(output.name, output.name, shape=(None,))

    def _without_maps(self, output: GraphOutput, node: Node, way: list[str]) -> TensorOutput:
        # An Identity takes the place of the operator, so no tensor has to be renamed, whatever else uses them.
        self._edits[node.place] = written(_NODE, _identity(node.inputs[0], node.outputs[0]))
        self._retype(output, way)
        classes = texts_or_numbers(self._file, node, "classlabels_strings", "classlabels_int64s")
        columns = f", with a column for each of {len(classes)} classes" if classes else ""
        self._notes.append(f"output {output.name!r} is the tensor that its ZipMap would make maps of{columns}")
        return TensorOutput(output.name, node.inputs[0], classes, (None, len(classes)) if classes else ())

    def _members(self, output: GraphOutput, node: Node) -> list[TensorOutput]:
        members = [
            TensorOutput(self._free(f"{output.name}_{place}"), tensor) for place, tensor in enumerate(node.inputs)
        ]
        self._edits[output.place] = b"".join([_untyped(member.name) for member in members])
        self._added += b"".join([written(_NODE, _identity(member.tensor, member.name)) for member in members])
        alone = not self._nodes.users(output.name) and not any(each.holds_graphs for each in self._nodes.nodes)
        if alone and output.name in node.outputs:
            self._edits[node.place] = b""
            self._untype([output.name])
        names = ", ".join([repr(member.name) for member in members])
        self._notes.append(f"output {output.name!r} is a sequence of {len(members)} tensors, served as {names}")
        return members

    def _retype(self, output: GraphOutput, way: Iterable[str]) -> None:
        """Removes the declared types of the tensors that lead to an output, so that the engine infers them."""
        self._edits[output.place] = _untyped(output.name)
        self._untype(way)

    def _untype(self, tensors: Iterable[str]) -> None:
        for tensor in tensors:
            if tensor in self._nodes.types:
                self._edits[self._nodes.types[tensor]] = b""

    def _free(self, name: str) -> str:
        """The name, with underscores added until no tensor has it."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _as_it_is(output: GraphOutput) -> TensorOutput:
    return TensorOutput(output.name, output.name)


def _untyped(name: str) -> bytes:
    """An encoded output without a type, which the engine infers."""
    return written(_OUTPUT, written(_VALUE_NAME, _encoded(name)))


def _identity(taken: str, given: str) -> bytes:
    texts = ((_NODE_INPUT, taken), (_NODE_OUTPUT, given), (_NODE_OPERATOR, "Identity"))
    return b"".join([written(number, _encoded(text)) for number, text in texts])


def _encoded(text: str) -> bytes:
    return text.encode()


def _begins(place: Field) -> int:
    return place.begins


def _copy(file: BinaryIO, to: BinaryIO, start: int, end: int) -> None:
    file.seek(start)
    while start < end:
        piece = file.read(min(_PIECE_BYTES, end - start))
        if not piece:
            raise ValueError("the file ends before its end")
        to.write(piece)
        start += len(piece)
