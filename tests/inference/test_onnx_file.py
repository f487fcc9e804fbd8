from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx
import pytest

from inference.onnx_file import _varint, external_files, shapeless_inputs
from tests import models


def _put(folder: Path, content: bytes) -> Path:
    return models.place(content, folder)


def test_weights_beside_the_model_are_found(tmp_path: Path) -> None:
    assert external_files(_put(tmp_path, models.external_weights("größe/w.bin"))) == ("größe/w.bin",)


def test_a_model_with_its_weights_inside_refers_to_nothing(tmp_path: Path) -> None:
    assert external_files(_put(tmp_path, models.mlp())) == ()


def test_weights_are_found_wherever_a_tensor_may_be(tmp_path: Path) -> None:
    def tensor(location: str) -> onnx.TensorProto:
        made = onnx.TensorProto(name=location, data_type=1, dims=[2], raw_data=bytes(8))
        onnx.external_data_helper.set_external_data(made, location)
        made.ClearField("raw_data")
        return made

    within = onnx.helper.make_graph([], "within", [], [], [tensor("in a subgraph")])
    nodes = [
        onnx.helper.make_node("Constant", [], ["a"], value=tensor("in a constant")),
        onnx.helper.make_node("If", ["c"], ["b"], then_branch=within),
    ]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], [tensor("in the graph")])
    function = onnx.helper.make_function("own", "F", [], ["a"], nodes[:1], [])
    function.node[0].attribute[0].t.CopyFrom(tensor("in a function"))
    content = onnx.helper.make_model(graph, functions=[function]).SerializeToString()
    assert external_files(_put(tmp_path, content)) == (
        "in a constant",
        "in a function",
        "in a subgraph",
        "in the graph",
    )


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 40, models.external_weights("w")[:-9]])
def test_what_is_no_model_refers_to_nothing(tmp_path: Path, content: bytes) -> None:
    assert external_files(_put(tmp_path, content)) == ()
    assert shapeless_inputs(_put(tmp_path, content)) == frozenset()


def test_long_lists_of_numbers_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = onnx.helper.make_node("TreeEnsemble", ["x"], ["y"], nodes=list(range(1000)), weights=[0.5] * 1000)
    content = onnx.helper.make_model(onnx.helper.make_graph([trees], "graph", [], [])).SerializeToString()
    reads: list[BinaryIO] = []

    def counted(file: BinaryIO) -> int:
        reads.append(file)
        return _varint(file)

    monkeypatch.setattr("inference.onnx_file._varint", counted)
    assert external_files(_put(tmp_path, content)) == ()
    assert 0 < len(reads) < 100


def test_what_is_no_file_refers_to_nothing(tmp_path: Path) -> None:
    assert external_files(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("model", "names"), [(models.shapeless(), {"x"}), (models.scalar(), set()), (models.two_in_two_out(), set())]
)
def test_inputs_without_a_shape_are_told_from_single_values(tmp_path: Path, model: bytes, names: set[str]) -> None:
    assert shapeless_inputs(_put(tmp_path, model)) == names
