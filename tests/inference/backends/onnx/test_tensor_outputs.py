from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.backends.onnx.tensor_outputs import TensorOutputs, edited, tensor_outputs
from sluice.inference.findings import Independence
from sluice.inference.types import Array
from tests import classifiers, models
from tests.inference.running import running

ROWS = np.array([[1, 3], [2, 2], [0, 5]], np.float32)
SHARES = ROWS / ROWS.sum(axis=1, keepdims=True)
MAPS = helper.make_sequence_type_proto(
    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
)
"""The type of a ZipMap's output."""

NORMALIZER = helper.make_node("Normalizer", ["x"], ["shares"], domain=models.ML, norm="L1")


def zip_map(taken: str, made: str, **labels: Any) -> Any:
    labels = labels or {"classlabels_int64s": [-7, 5]}
    return helper.make_node("ZipMap", [taken], [made], domain=models.ML, **labels)


def graph(
    nodes: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, Array] | None = None,
    types: Sequence[Any] = (),
) -> bytes:
    """A model with the input float32[N,2] `x` and these operators."""
    opsets = [helper.make_opsetid("", models.OPSET), helper.make_opsetid(models.ML, models.ML_OPSET)]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    made = helper.make_graph(nodes, "graph", [shares("x")], outputs, weights, value_info=types)
    model = helper.make_model(made, opset_imports=opsets, ir_version=models.IR_VERSION)
    return bytes(model.SerializeToString())


def maps(name: str) -> Any:
    return helper.make_value_info(name, MAPS)


def shares(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])


def answers(file: Path) -> dict[str, Array]:
    backend = OnnxBackend(file, "cpu", 1)
    names = [spec.name for spec in backend.outputs]
    return dict(zip(names, backend.run((ROWS,), names), strict=True))


def shape(file: Path, name: str) -> tuple[int | None, ...]:
    (spec,) = [spec for spec in OnnxBackend(file, "cpu", 1).outputs if spec.name == name]
    return spec.shape


def test_what_a_zipmap_takes_is_served_under_its_outputs_name(tmp_path: Path) -> None:
    model = graph([NORMALIZER, zip_map("shares", "y")], [maps("y")])
    file = models.place(model, tmp_path)
    shown = tensor_outputs(file)
    (output,) = shown.outputs
    assert (output.name, output.tensor, output.classes) == ("y", "shares", ("-7", "5"))
    assert shown.tensors == ("shares",)
    assert shown.notes == (
        "output 'y' is the tensor that its ZipMap would make maps of, with a column for each of 2 classes",
    )
    np.testing.assert_allclose(answers(file)["y"], SHARES)
    assert shape(file, "y") == (None, 2)
    assert file.read_bytes() == model


def test_names_of_classes_may_be_words(tmp_path: Path) -> None:
    file = models.place(graph([zip_map("x", "y", classlabels_strings=["rot", "grün"])], [maps("y")]), tmp_path)
    assert tensor_outputs(file).outputs[0].classes == ("rot", "grün")


def test_integers_may_be_packed(tmp_path: Path) -> None:
    model = graph([zip_map("x", "y", classlabels_int64s=[1, 300])], [maps("y")])
    apart, packed = b"\x40\x01\x40\xac\x02", b"\x42\x03\x01\xac\x02"
    assert model.count(apart) == 1
    assert tensor_outputs(models.place(model.replace(apart, packed), tmp_path)).outputs[0].classes == ("1", "300")


def test_a_zipmap_without_classes_leaves_the_shape_to_the_engine(tmp_path: Path) -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=models.ML)
    file = models.place(graph([node], [maps("y")]), tmp_path)
    assert tensor_outputs(file).outputs[0].classes == ()
    assert shape(file, "y") == (None, 2)
    np.testing.assert_array_equal(answers(file)["y"], ROWS)


def test_a_tensor_that_is_an_output_itself_is_served_twice(tmp_path: Path) -> None:
    file = models.place(graph([NORMALIZER, zip_map("shares", "y")], [shares("shares"), maps("y")]), tmp_path)
    found = answers(file)
    assert list(found) == ["shares", "y"]
    np.testing.assert_array_equal(found["shares"], found["y"])
    assert tensor_outputs(file).tensors == ("shares", "shares")


def test_each_zipmap_of_several_is_left_out(tmp_path: Path) -> None:
    nodes = [
        NORMALIZER,
        zip_map("shares", "one"),
        helper.make_node("Add", ["shares", "shares"], ["doubled"]),
        zip_map("doubled", "other", classlabels_strings=["a", "b"]),
    ]
    file = models.place(graph(nodes, [maps("other"), shares("doubled"), maps("one")]), tmp_path)
    shown = tensor_outputs(file)
    assert [(each.name, each.tensor) for each in shown.outputs] == [
        ("other", "doubled"),
        ("doubled", "doubled"),
        ("one", "shares"),
    ]
    assert len(shown.notes) == 2
    found = answers(file)
    np.testing.assert_allclose(found["other"], 2 * SHARES)
    np.testing.assert_allclose(found["one"], SHARES)


def test_a_zipmap_is_found_behind_operators_that_pass_on(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["wide"], ["narrow"], to=TensorProto.FLOAT),
        zip_map("narrow", "zipped"),
        helper.make_node("Identity", ["zipped"], ["passed"]),
        helper.make_node("Identity", ["passed"], ["y"]),
    ]
    file = models.place(graph(nodes, [maps("y")], types=[maps("zipped"), maps("passed")]), tmp_path)
    assert tensor_outputs(file).tensors == ("narrow",)
    np.testing.assert_array_equal(answers(file)["y"], ROWS)
    assert shape(file, "y") == (None, 2)


def test_another_operator_of_that_name_is_none(tmp_path: Path) -> None:
    nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="own")]
    shown = tensor_outputs(models.place(graph(nodes, [maps("y")]), tmp_path))
    assert (shown.edits, shown.tensors) == ((), ("y",))


def test_the_elements_of_a_sequence_are_served_one_by_one(tmp_path: Path) -> None:
    nodes = [NORMALIZER, helper.make_node("SequenceConstruct", ["shares", "x"], ["y"])]
    declared = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    file = models.place(graph(nodes, [declared]), tmp_path)
    shown = tensor_outputs(file)
    assert [(each.name, each.tensor) for each in shown.outputs] == [("y_0", "shares"), ("y_1", "x")]
    found = answers(file)
    np.testing.assert_allclose(found["y_0"], SHARES)
    np.testing.assert_array_equal(found["y_1"], ROWS)
    left = onnx.load_model_from_string(edited(file, shown))
    assert "SequenceConstruct" not in [node.op_type for node in left.graph.node]


def test_names_that_are_taken_are_not_given_again(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "y_1"], ["y_0"]),
        helper.make_node("SequenceConstruct", ["x", "y_0"], ["y"]),
    ]
    declared = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = graph(nodes, [shares("y_0"), declared], {"y_1": np.ones(2, np.float32)})
    found = answers(models.place(model, tmp_path))
    assert list(found) == ["y_0", "y_0_", "y_1_"]
    np.testing.assert_array_equal(found["y_0_"], ROWS)
    np.testing.assert_array_equal(found["y_1_"], ROWS + 1)


def test_a_sequence_that_something_else_needs_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["y"]),
        helper.make_node("SequenceAt", ["y", "place"], ["first"]),
    ]
    declared = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = graph(nodes, [declared, shares("first")], {"place": np.array(0, np.int64)})
    assert list(answers(models.place(model, tmp_path))) == ["y_0", "y_1", "first"]


def test_a_label_that_declares_one_value_has_one_for_each_row(tmp_path: Path) -> None:
    file = models.place(classifiers.boosted().model, tmp_path)
    label, probabilities = OnnxBackend(file, "cpu", 1).outputs
    assert (label.shape, probabilities.shape) == ((None,), (None, 3))
    assert tensor_outputs(file).notes[0] == "output 'output_label' declares the shape [1], and has a class for each row"


def test_one_value_of_anything_else_is_believed(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    declared = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    file = models.place(graph(nodes, [declared], {"axes": np.array([1])}), tmp_path)
    assert tensor_outputs(file).edits == ()
    assert shape(file, "y") == (1,)


@pytest.mark.parametrize("location", ["w.bin", "../shared/w.bin"])
def test_weights_are_found_beside_the_model_and_apart_from_it(location: str, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(models.external_weights(location))
    model.graph.node.append(zip_map("y", "zipped"))
    model.graph.output[0].CopyFrom(maps("zipped"))
    model.opset_import.append(helper.make_opsetid(models.ML, models.ML_OPSET))
    file = models.place(model.SerializeToString(), tmp_path / "1")
    models.place(np.array([7, 9], np.float32).tobytes(), (file.parent / location).parent, "w.bin")
    backend = OnnxBackend(file, "cpu", 1, [location] if location.startswith("..") else [])
    (found,) = backend.run((np.array([[2]], np.float32),), ["zipped"])
    assert found.tolist() == [[14, 18]]


@pytest.mark.parametrize("model", [models.tiny(), models.two_in_two_out(), models.loop(), models.sequence_output()])
def test_what_is_right_or_not_to_be_mended_stays_as_it_is(model: bytes, tmp_path: Path) -> None:
    shown = tensor_outputs(models.place(model, tmp_path))
    names = tuple([each.name for each in onnx.load_model_from_string(model).graph.output])
    assert (shown.tensors, shown.edits, shown.notes) == (names, (), ())


def test_the_edited_model_is_the_file_but_for_the_zipmap(tmp_path: Path) -> None:
    file = models.place(classifiers.forest().model, tmp_path)
    before = onnx.load_model(file)
    after = onnx.load_model_from_string(edited(file, tensor_outputs(file)))
    (zipped,) = [node for node in before.graph.node if node.op_type == "ZipMap"]
    zipped.CopyFrom(helper.make_node("Identity", zipped.input, zipped.output))
    before.graph.output[1].ClearField("type")
    assert after == before


def test_the_edited_bytes_are_not_kept(tmp_path: Path) -> None:
    backend = OnnxBackend(models.place(classifiers.forest().model, tmp_path), "cpu", 1)
    assert [name for name, value in vars(backend._session).items() if isinstance(value, bytes)] == []


def test_circles_end(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["b"], ["a"]), helper.make_node("Identity", ["a"], ["b"])]
    assert tensor_outputs(models.place(graph(nodes, [maps("b")]), tmp_path)).edits == ()


def test_a_file_that_is_not_there_has_no_outputs(tmp_path: Path) -> None:
    assert tensor_outputs(tmp_path / "absent") == TensorOutputs()


@given(st.data())
def test_whatever_the_file_holds_it_is_read_or_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(classifiers.boosted().model)
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    file = models.place(bytes(whole), tmp_path_factory.getbasetemp(), "broken.onnx")
    shown = tensor_outputs(file)
    if shown.edits:
        edited(file, shown)


def test_the_file_tells_the_classes_where_the_engine_knows_the_rank_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Reshape", ["x", "sizes"], ["reshaped"]),
        zip_map("reshaped", "y"),
    ]
    assert shape(models.place(graph(nodes, [maps("y")]), tmp_path), "y") == (None, 2)


@pytest.mark.parametrize("name", classifiers.ALL)
def test_rows_of_what_is_served_are_proven_apart(name: str, tmp_path: Path) -> None:
    file = models.place(classifiers.ALL[name]().model, tmp_path)
    proof = prove(file, tensor_outputs(file).tensors)
    assert proof.verdict is Independence.PROVEN, proof.because


async def test_workers_tell_what_they_serve_otherwise(tmp_path: Path) -> None:
    async with running(graph([zip_map("x", "y")], [maps("y")]), tmp_path) as (workers, _):
        assert workers.class_names == {"y": ("-7", "5")}
        assert workers.notes == tensor_outputs(tmp_path / "model.onnx").notes


async def test_names_for_which_a_message_has_no_room_are_left_out(tmp_path: Path) -> None:
    nodes = [zip_map("x", "y", classlabels_strings=["a" * 40_000, "b" * 40_000]), zip_map("x", "z")]
    async with running(graph(nodes, [maps("y"), maps("z")]), tmp_path) as (workers, _):
        assert workers.class_names == {"z": ("-7", "5")}
        assert "the classes of output 'y' have too long names to be told; give them in [labels]" in workers.notes[0]
