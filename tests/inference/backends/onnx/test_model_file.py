from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx
import onnxruntime
import pytest

from sluice.inference.backends.onnx.model_file import external_files, random_operators, shapeless_inputs
from sluice.inference.backends.onnx.protobuf import varint
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
        return varint(file)

    monkeypatch.setattr("sluice.inference.backends.onnx.protobuf.varint", counted)
    assert external_files(_put(tmp_path, content)) == ()
    assert 0 < len(reads) < 100


def test_what_is_no_file_refers_to_nothing(tmp_path: Path) -> None:
    assert external_files(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("model", "names"), [(models.shapeless(), {"x"}), (models.scalar(), set()), (models.two_in_two_out(), set())]
)
def test_inputs_without_a_shape_are_told_from_single_values(tmp_path: Path, model: bytes, names: set[str]) -> None:
    assert shapeless_inputs(_put(tmp_path, model)) == names


def _graph_of(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return onnx.helper.make_graph(list(nodes), "graph", [], [])


def _content(graph: onnx.GraphProto, *functions: onnx.FunctionProto) -> bytes:
    content: bytes = onnx.helper.make_model(graph, functions=list(functions)).SerializeToString()
    return content


def test_random_operators_are_found_wherever_they_stand(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    branch = _graph_of(make("If", ["c"], ["d"], then_branch=_graph_of(make("Multinomial", ["p"], ["q"]))))
    function = onnx.helper.make_function("own", "F", [], ["a"], [make("RandomUniform", [], ["a"], shape=[1])], [])
    nodes = [
        make("Add", ["x", "x"], ["y"]),
        make("Loop", ["n"], ["z"], body=branch),
        make("Bernoulli", ["x"], ["b"], seed=1.0),
        make("BiasDropout", ["x", "w"], ["v"], domain="com.microsoft"),
    ]
    found = random_operators(_put(tmp_path, _content(_graph_of(*nodes), function)))
    assert found == ("Bernoulli", "BiasDropout", "Multinomial", "RandomUniform")


@pytest.mark.parametrize(
    ("inputs", "found"), [(["x"], ()), (["x", "ratio"], ()), (["x", "", "t"], ("Dropout",)), (["x", "ratio", ""], ())]
)
def test_a_dropout_counts_where_it_may_drop(tmp_path: Path, inputs: list[str], found: tuple[str, ...]) -> None:
    graph = _graph_of(onnx.helper.make_node("Dropout", inputs, ["y"]))
    assert random_operators(_put(tmp_path, _content(graph))) == found


def test_models_that_draw_nothing(tmp_path: Path) -> None:
    for content in (models.mlp(), models.loop(), models.image(), b"no model", b""):
        assert random_operators(_put(tmp_path, content)) == ()
    assert random_operators(tmp_path / "gone.onnx") == ()


def test_a_seed_does_not_make_a_model_say_the_same_twice() -> None:
    node = onnx.helper.make_node("RandomUniform", [], ["y"], shape=[2], seed=1.0)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([node], "graph", [], [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {})[0].tolist() != session.run(None, {})[0].tolist()
