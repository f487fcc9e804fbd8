from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sluice
from sluice.inference.backends.onnx.session import OnnxBackend, engine_text
from sluice.inference.errors import ModelFailed, ModelLoadError
from sluice.inference.types import Array, Datatype
from tests import models


def _load(model: bytes, folder: Path, device: str = "cpu") -> OnnxBackend:
    return OnnxBackend(models.place(model, folder), device, 1)


def _bytes(*elements: bytes) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


@pytest.mark.parametrize("datatype", list(Datatype))
def test_the_specs_are_the_models_own(datatype: Datatype, tmp_path: Path) -> None:
    backend = _load(models.identity(datatype, ["N", 3, None]), tmp_path)
    assert [(spec.name, spec.datatype, spec.shape) for spec in (*backend.inputs, *backend.outputs)] == [
        ("x", datatype, (None, 3, None)),
        ("y", datatype, (None, 3, None)),
    ]


def test_outputs_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    backend = _load(models.two_in_two_out(), tmp_path)
    inputs = (np.ones((1, 4), np.float32), np.ones((1, 2), np.int64))
    doubled, plus_one = backend.run(inputs, ["a_doubled", "b_plus_one"])
    assert doubled.tolist() == [[2, 2, 2, 2]]
    assert plus_one.tolist() == [[2, 2]]
    assert len(backend.run(inputs, ["b_plus_one"])) == 1


def test_text_goes_in_and_comes_out_as_bytes(tmp_path: Path) -> None:
    text = _bytes("größe".encode(), b"", b"a\0b", "🚰".encode())
    (out,) = _load(models.strings(), tmp_path).run((text,), ["y"])
    assert out.tolist() == text.tolist()


def test_bytes_that_are_no_text_are_an_invalid_input(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match=r"element 1 of input 'x' is not UTF-8 text \(byte 2 is 0xff\)") as caught:
        _load(models.strings(), tmp_path).run((_bytes(b"fine", b"no\xff"),), ["y"])
    assert caught.value.invalid_input


def test_values_out_of_range_are_an_invalid_input(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="idx=7 must be within the inclusive range") as caught:
        _load(models.lookup(), tmp_path).run((np.array([7]),), ["y"])
    assert caught.value.invalid_input


def test_a_shape_that_the_model_cannot_use_fails_in_the_engines_words(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed) as caught:
        _load(models.one_row_only(), tmp_path).run((np.ones((2, 4), np.float32),), ["y"])
    assert "The input tensor cannot be reshaped to the requested shape" in str(caught.value)
    assert "/" not in str(caught.value)


def test_a_failed_run_is_not_logged_by_the_engine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFailed):
        _load(models.lookup(), tmp_path).run((np.array([7]),), ["y"])
    assert capfd.readouterr().err == ""


def test_the_engine_keeps_no_record_of_its_use(tmp_path: Path) -> None:
    model = models.place(models.tiny(), tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    code = f"from sluice.inference.backends.onnx.session import *; OnnxBackend(Path({str(model)!r}), 'cpu', 1)"
    packages = str(Path(sluice.__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], cwd=packages, env={"HOME": str(home)}, check=True)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid rank for input: x Got: 1\n more",
            "Invalid rank for input: x Got: 1",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Status Message: /build/src/core/helper.h:84 A::B(const C&) size != 0 was "
            "false. No reshape. Input shape:{2,3}\n",
            "Status Message: No reshape. Input shape:{2,3}",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : matmul_helper.h:59 Compute dimension mismatch", "Compute dimension mismatch"),
        ("Load model from /models/a/1/model.onnx failed:File doesn't exist", "Load model from model.onnx failed:"),
        ("input a/b has 3/4 of it", "input a/b has 3/4 of it"),
        ("", "RuntimeError"),
    ],
)
def test_engine_text(said: str, told: str) -> None:
    assert engine_text(RuntimeError(said)).startswith(told)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"not a model", "Protobuf parsing failed"),
        (b"", "No graph was found"),
        (models.bfloat16_and_text(), "both BF16 and BYTES"),
        (models.shapeless(), "input 'x' declares no shape; export it with one"),
        (
            models.sequence_output(),
            r"output 'y' is a sequence \(seq\(tensor\(float\)\)\), .* a tensor for each element",
        ),
        (models.sequence_input(), r"input 'x' is a sequence \(seq\(tensor\(float\)\)\), which no request can carry"),
        (models.optional_input(), r"input 'x' is optional \(optional\(tensor\(float\)\)\), .* that is always there"),
        (models.map_input(), r"input 'x' is a map \(map\(string,tensor\(float\)\)\), .* a column for each key"),
    ],
    ids=["no protobuf", "empty", "BF16 and BYTES", "no shape", "sequence", "sequence in", "optional in", "map in"],
)
def test_what_cannot_be_served_is_refused(model: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=message):
        _load(model, tmp_path)


@pytest.mark.parametrize("model", [models.sequence_input(), models.sequence_output()])
def test_a_sequence_of_no_classifier_is_not_told_of_zipmap(model: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        _load(model, tmp_path)
    assert "zipmap" not in str(caught.value).lower()
    assert "declares no shape" not in str(caught.value)


def test_a_single_value_is_a_shape(tmp_path: Path) -> None:
    assert _load(models.scalar(), tmp_path).inputs[0].shape == ()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="File doesn't exist"):
        OnnxBackend(tmp_path / "absent.onnx", "cpu", 1)


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "CPU", ""])
def test_a_device_of_no_known_kind_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=f"no device '{device}'; give 'cpu' or 'cuda:N'"):
        _load(models.tiny(), tmp_path, device)


def test_cuda_is_not_replaced_by_the_cpu(tmp_path: Path) -> None:
    import onnxruntime  # after the backend, which turns its telemetry off

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ModelLoadError, match=r"run on cuda:0, but .* install onnxruntime-gpu"):
        _load(models.tiny(), tmp_path, "cuda:0")


@pytest.mark.parametrize("location", ["../w.bin", "sub/w.bin", "ABSOLUTE/w.bin"])
def test_weights_that_the_engine_would_not_read_are_read_for_it(tmp_path: Path, location: str) -> None:
    location = location.replace("ABSOLUTE", str(tmp_path))
    file = models.place(models.external_weights(location), tmp_path / "m")
    (tmp_path / "m/sub").symlink_to(tmp_path)
    (tmp_path / "w.bin").write_bytes(np.array([2, 3], np.float32).tobytes())
    with pytest.raises(ModelLoadError, match="xternal data"):
        OnnxBackend(file, "cpu", 1)
    backend = OnnxBackend(file, "cpu", 1, (location,))
    (tmp_path / "w.bin").write_bytes(np.array([4, 5], np.float32).tobytes())
    assert backend.run((np.ones((1, 1), np.float32),), ["y"])[0].tolist() == [[2, 3]]


def test_weights_that_are_read_for_it_and_too_short_are_refused(tmp_path: Path) -> None:
    file = models.place(models.external_weights("../w.bin"), tmp_path / "m")
    for content in (b"", b"1234"):
        (tmp_path / "w.bin").write_bytes(content)
        with pytest.raises(ModelLoadError):
            OnnxBackend(file, "cpu", 1, ("../w.bin",))
