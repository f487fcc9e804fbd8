"""Reading the valid request that lies beside a model."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sluice.inference.repository.sample import (
    SAMPLE_BYTES,
    SAMPLE_ROWS,
    SampleFault,
    find_sample,
    read_sample,
    sample_json,
)
from sluice.inference.types import STORAGE, Array, Datatype, Tensor, TensorSpec

X = TensorSpec("x", Datatype.FP32, (None, 2))
SAMPLES: dict[Datatype, list[Any]] = {
    Datatype.BOOL: [True, False],
    Datatype.UINT8: [0, 255],
    Datatype.INT64: [-(2**63), 2**63 - 1],
    Datatype.UINT64: [0, 2**64 - 1],
    Datatype.FP16: [0.5, -2.0],
    Datatype.BF16: [0.5, -2.0],
    Datatype.FP32: [1, -2.5],
    Datatype.FP64: [1e300, 0.1],
    Datatype.BYTES: ["", "grüße"],
}


def _request(folder: Path, *inputs: dict[str, Any]) -> Path:
    file = folder / "sample.json"
    file.write_text(json.dumps({"id": "7", "inputs": inputs, "outputs": [{"name": "y"}]}))
    return file


def _input(name: str, shape: list[int], data: list[Any], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _expected(datatype: Datatype, values: list[Any]) -> Array:
    if datatype is Datatype.BYTES:
        return np.array([value.encode() for value in values], np.object_)
    if datatype is Datatype.BF16:
        return (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.array(values, STORAGE[datatype])


@pytest.mark.parametrize("datatype", list(SAMPLES))
def test_a_request_is_read_in_every_datatype_flat_and_nested(datatype: Datatype, tmp_path: Path) -> None:
    values = SAMPLES[datatype]
    spec = TensorSpec("x", datatype, (None, 1))
    for data in (values, [[value] for value in values]):
        (array,) = read_sample(_request(tmp_path, _input("x", [2, 1], data, datatype)), (spec,))
        assert (array.dtype, array.shape) == (STORAGE[datatype], (2, 1))
        assert array.ravel().tolist() == _expected(datatype, values).tolist()


@pytest.mark.parametrize("datatype", list(SAMPLES))
def test_an_archive_is_read_in_every_datatype(datatype: Datatype, tmp_path: Path) -> None:
    values = SAMPLES[datatype]
    if datatype is Datatype.BYTES:
        arrays = [np.array(values), np.array([value.encode() for value in values])]
    else:
        arrays = [np.array(values, np.float32 if datatype is Datatype.BF16 else STORAGE[datatype])]
    for given in arrays:
        np.savez(tmp_path / "sample.npz", x=given.reshape(2, 1))
        (array,) = read_sample(tmp_path / "sample.npz", (TensorSpec("x", datatype, (None, 1)),))
        assert (array.dtype, array.shape) == (STORAGE[datatype], (2, 1))
        assert array.ravel().tolist() == _expected(datatype, values).tolist()


def test_inputs_come_in_the_order_of_the_model(tmp_path: Path) -> None:
    file = _request(tmp_path, _input("z", [1, 2], [3, 4]), _input("x", [1, 2], [1, 2]))
    x, z = read_sample(file, (X, TensorSpec("z", Datatype.FP32, (None, 2))))
    assert (x.tolist(), z.tolist()) == ([[1, 2]], [[3, 4]])


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ([_input("x", [1, 3], [1, 2, 3])], r"input 'x' has shape \[1, 3\]; expected \[\*, 2\]"),
        ([_input("x", [2], [1, 2])], r"input 'x' has shape \[2\]; expected \[\*, 2\]"),
        ([_input("x", [1, 2], [1, 2], "INT64")], "input 'x' has datatype INT64; expected FP32"),
        ([_input("x", [1, 2], [1, 2], "FLOAT")], "input 'x' has datatype 'FLOAT'; expected one of BOOL, "),
        ([_input("q", [1, 2], [1, 2])], "missing 'x', unknown 'q'"),
        ([], "missing 'x'"),
        ([_input("x", [0, 2], [])], "has no rows"),
        ([_input("x", [1, 2], [1, 2, 3])], r"its data are not FP32 of the shape \[1, 2\]"),
        ([_input("x", [1, 2], [1, "a"])], "its data are not FP32"),
        ([_input("x", [1, 2], [[1], 2])], "its data are not FP32"),
        ([_input("x", [1, -1], [1, 2])], "sizes are not negative"),
        ([_input("x", [1, 2], [1, None])], "there is a null among them"),
        ([_input("x", [1, 2], [1, 1e300])], "its data are not FP32"),
        ([_input("x", [1, 2], ["a", 10**15], "BYTES")], "there are elements that are no text"),
        ([_input("x", [1, 2], ["a", {}], "BYTES")], "there are elements that are no text"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(inputs: list[dict[str, Any]], fault: str, tmp_path: Path) -> None:
    with pytest.raises(SampleFault, match=fault) as caught:
        read_sample(_request(tmp_path, *inputs), (X,))
    assert str(caught.value).startswith(f"{tmp_path / 'sample.json'}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"inputs": [{"name": "x"}]}', b"\xff\xfe", b'{"inputs": 1}'])
@pytest.mark.parametrize("name", ["sample.json", "sample.npz"])
def test_a_file_that_is_none_is_refused_in_words(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SampleFault):
        read_sample(tmp_path / name, (X,))


def test_an_archive_of_other_arrays_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sample.npz"
    for arrays, fault in (
        ({"q": np.zeros((1, 2), np.float32)}, "unknown 'q'"),
        ({"x": np.array([["a", "b"]])}, "has the dtype <U1; expected FP32"),
        ({"x": np.array([{}, {}], object)}, "pickle"),
    ):
        np.savez(file, allow_pickle=True, **arrays)
        with pytest.raises(SampleFault, match=fault):
            read_sample(file, (X,))


def test_lists_in_lists_without_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    file.write_text('{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": ' + "[" * 100_000)
    with pytest.raises(SampleFault, match="recursion"):
        read_sample(file, (X,))


def _archive(folder: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(folder / "sample.npz", "w") as archive:
        archive.writestr(name, content)
    return folder / "sample.npz"


def test_an_array_that_claims_more_than_fits_into_memory_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 2), }\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(SampleFault, match="more numbers than fit into memory"):
        read_sample(_archive(tmp_path, "x.npy", content), (X,))


def test_what_is_no_array_in_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleFault, match="'x' is no array of numpy"):
        read_sample(_archive(tmp_path, "x", b"hello"), (X,))


@pytest.mark.parametrize(
    ("local", "central", "value", "fault"), [(6, 8, 1, "encrypted"), (8, 10, 99, "compression method")]
)
def test_an_archive_of_another_kind_is_refused(
    local: int, central: int, value: int, fault: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "sample.npz", x=np.zeros((1, 2), np.float32))
    content = bytearray((tmp_path / "sample.npz").read_bytes())
    content[local] = content[content.index(b"PK\x01\x02") + central] = value
    (tmp_path / "sample.npz").write_bytes(content)
    with pytest.raises(SampleFault, match=fault):
        read_sample(tmp_path / "sample.npz", (X,))


def test_a_file_or_an_archive_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sample.json").open("wb") as file:
        file.truncate(SAMPLE_BYTES + 1)
    with pytest.raises(SampleFault, match="a sample has at most"):
        read_sample(tmp_path / "sample.json", (X,))
    np.savez_compressed(tmp_path / "sample.npz", x=np.zeros((SAMPLE_BYTES // 8 + 1, 2), np.float32))
    with pytest.raises(SampleFault, match="a sample has at most"):
        read_sample(tmp_path / "sample.npz", (X,))


@pytest.mark.parametrize("datatype", list(SAMPLES))
def test_a_recorded_request_is_read_as_it_was(datatype: Datatype, tmp_path: Path) -> None:
    array = _expected(datatype, SAMPLES[datatype] * 6).reshape(-1, 1)
    (tmp_path / "sample.json").write_bytes(sample_json([Tensor("x", datatype, array)]))
    (read,) = read_sample(tmp_path / "sample.json", (TensorSpec("x", datatype, (None, 1)),))
    assert (read.dtype, read.tolist()) == (array.dtype, array[:SAMPLE_ROWS].tolist())


def test_inputs_with_rows_of_their_own_are_recorded_whole(tmp_path: Path) -> None:
    tensors = [Tensor("x", Datatype.FP32, np.zeros((20, 2), np.float32)), Tensor("n", Datatype.INT64, np.array(3))]
    (tmp_path / "sample.json").write_bytes(sample_json(tensors))
    x, n = read_sample(tmp_path / "sample.json", (X, TensorSpec("n", Datatype.INT64, ())))
    assert (x.shape, n.tolist()) == ((20, 2), 3)


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        (Tensor("x", Datatype.BYTES, np.array([b"\xff"], np.object_)), "no UTF-8 text"),
        (Tensor("x", Datatype.FP32, np.array([math.nan], np.float32)), "not finite"),
        (Tensor("x", Datatype.FP32, np.zeros((1, SAMPLE_BYTES // 8), np.float32)), "too large"),
    ],
)
def test_what_cannot_be_recorded_is_said(tensor: Tensor, fault: str) -> None:
    with pytest.raises(SampleFault, match=fault):
        sample_json([tensor])


def test_the_nearest_sample_counts(tmp_path: Path) -> None:
    version = tmp_path / "m" / "3"
    version.mkdir(parents=True)
    found = []
    for file in (tmp_path / "m" / "sample.npz", tmp_path / "m" / "sample.json", version / "sample.npz"):
        file.write_bytes(b"{}")
        sample = find_sample(version / "model.onnx")
        assert sample is not None
        found.append(sample.path)
    assert found == [tmp_path / "m" / "sample.npz", tmp_path / "m" / "sample.json", version / "sample.npz"]


def test_a_bare_file_has_the_sample_beside_it_alone(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "sample.json").write_text("{}")
    assert find_sample(tmp_path / "nets" / "net.onnx") is None
    (tmp_path / "nets" / "sample.json").write_text("{}")
    assert find_sample(tmp_path / "nets" / "net.onnx") is not None


def test_a_sample_that_was_written_anew_is_another(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("{}")
    before = find_sample(tmp_path / "net.onnx")
    (tmp_path / "sample.json").write_text("{ }")
    assert find_sample(tmp_path / "net.onnx") != before
