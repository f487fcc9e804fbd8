"""A sample: a valid request in a file beside a model, so that the model can be tried with realistic rows.

It is `sample.json`, a request of the Open Inference Protocol V2, or `sample.npz`, a numpy archive with an array for
each input. It lies beside the version's file or in the model's folder; the first one found is used.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sluice.inference.config.fence import Fence
from sluice.inference.errors import InvalidRequest, RepositoryError
from sluice.inference.signature import conform
from sluice.inference.storage import computable, stored
from sluice.inference.types import FLOATS, STORAGE, Array, Arrays, Datatype, Signature, Tensor, TensorSpec

SAMPLE_NAMES = ("sample.json", "sample.npz")

SAMPLE_BYTES = 64 << 20
"""The largest sample that is read, and the most bytes in an archive when it is unpacked."""


SAMPLE_ROWS = 8
"""How many rows of a request are recorded, and how many of a sample a model is tried with."""

JSON_BYTES = 6
"""About how many bytes of JSON one byte of an input takes at most."""

_UNREADABLE = (ValueError, ArithmeticError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a broken file raises. `RuntimeError`: too deeply nested lists, and encrypted archives."""


class SampleFile(msgspec.Struct, frozen=True):
    """A sample file on disk. A different file, or the same one written again, is a different sample."""

    path: Path
    size_bytes: int
    changed_ns: int


class SampleFault(Exception):
    """Why a sample cannot be used, in plain words, with the file's name."""


def find_sample(model_file: Path) -> SampleFile | None:
    """The sample of a model file; `None` if there is none that can be read."""
    folders = [model_file.parent]
    if model_file.parent.name.isdigit():
        folders.append(model_file.parent.parent)
    files = [folder / name for folder in folders for name in SAMPLE_NAMES]
    for file in files:
        with suppress(OSError):  # a model can be served without its sample
            if file.is_file() and _lies_with(file, model_file):
                found = file.stat()
                return SampleFile(file, found.st_size, found.st_mtime_ns)
    return None


def _lies_with(file: Path, model_file: Path) -> bool:
    """Whether the real path of a sample is in its model's repository, or in the store that both are links into."""
    folder = model_file.parent
    root = folder.parent.parent if folder.name.isdigit() else folder
    try:
        Fence(root).check(file, model_file, SAMPLE_BYTES)
    except RepositoryError:
        return False
    return True


def sample_place(model_file: Path) -> Path:
    """The path of a sample that is for all versions of this model."""
    folder = model_file.parent
    return (folder.parent if folder.name.isdigit() else folder) / SAMPLE_NAMES[0]


def sample_json(inputs: Sequence[Tensor]) -> bytes:
    """A request with these inputs, cut to `SAMPLE_ROWS` rows if they have the same number. Raises `SampleFault`."""
    rows = {tensor.array.shape[0] if tensor.array.ndim else None for tensor in inputs}
    cut = slice(SAMPLE_ROWS) if len(rows) == 1 and None not in rows else Ellipsis
    arrays = [tensor.array[cut] for tensor in inputs]
    if sum([array.nbytes for array in arrays]) > SAMPLE_BYTES // JSON_BYTES:
        raise SampleFault(f"the request is too large for a sample; write {SAMPLE_NAMES[1]} by hand")
    try:
        tensors = [
            _JsonTensor(tensor.name, tensor.datatype, list(array.shape), _plain(tensor.datatype, array))
            for tensor, array in zip(inputs, arrays, strict=True)
        ]
        return msgspec.json.encode(_JsonRequest(tensors))
    except UnicodeDecodeError:
        raise SampleFault("the request has bytes that are no UTF-8 text, which JSON cannot carry") from None


def read_sample(file: Path, inputs: Sequence[TensorSpec]) -> Arrays:
    """The sample's arrays in the order of the inputs, in storage dtypes. Raises `SampleFault`."""
    try:
        size = file.stat().st_size
        if size > SAMPLE_BYTES:
            raise SampleFault(f"{file}: has {size} bytes; a sample has at most {SAMPLE_BYTES}")
        tensors = _from_npz(file, inputs) if file.suffix == ".npz" else _from_json(file.read_bytes())
        arrays = conform(Signature(tuple(inputs), (), batched=False), tensors)
    except InvalidRequest as fault:
        raise SampleFault(f"{file}: {fault}") from None
    except OSError as fault:
        raise SampleFault(f"{file}: cannot be read: {fault.strerror or fault}") from None
    except MemoryError:
        raise SampleFault(f"{file}: says that it has more numbers than fit into memory") from None
    except _UNREADABLE as fault:
        raise SampleFault(f"{file}: {fault}") from None
    rows = {array.shape[0] for array, spec in zip(arrays, inputs, strict=True) if spec.shape and spec.shape[0] is None}
    if 0 in rows:
        raise SampleFault(f"{file}: has no rows; give one at least")
    return arrays


def common_rows(arrays: Arrays) -> bool:
    """Whether all inputs have the same number of rows."""
    return len({array.shape[0] if array.ndim else None for array in arrays}) == 1


class _JsonTensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class _JsonRequest(msgspec.Struct):
    inputs: list[_JsonTensor]


def _from_json(content: bytes) -> list[Tensor]:
    request = msgspec.json.decode(content, type=_JsonRequest)
    return [_tensor(each) for each in request.inputs]


def _tensor(given: _JsonTensor) -> Tensor:
    fault = f"input {given.name!r}"
    if given.datatype not in frozenset(Datatype):
        raise ValueError(f"{fault} has datatype {given.datatype!r}; expected one of {', '.join(Datatype)}")
    datatype = Datatype(given.datatype)
    try:
        if any(size < 0 for size in given.shape):
            raise ValueError("sizes are not negative")
        return Tensor(given.name, datatype, _array(_flat(given.data), datatype).reshape(given.shape))
    except (ValueError, ArithmeticError, TypeError) as error:
        raise ValueError(f"{fault}: its data are not {datatype} of the shape {given.shape}: {error}") from None


def _plain(datatype: Datatype, array: Array) -> list[Any]:
    if datatype is Datatype.BYTES:
        return [element.decode() for element in array.ravel().tolist()]
    numbers: list[Any] = computable(array, datatype).ravel().tolist()
    if datatype in FLOATS and not all(map(math.isfinite, numbers)):
        raise SampleFault("the request has numbers that are not finite, which JSON cannot carry")
    return numbers


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [element for each in data for element in each]
    return data


def _array(flat: list[Any], datatype: Datatype) -> Array:
    if None in flat:
        raise TypeError("there is a null among them")  # numpy would make it NaN
    if datatype is Datatype.BYTES:
        if not all(isinstance(element, str) for element in flat):
            raise TypeError("there are elements that are no text")
        texts = np.empty(len(flat), np.object_)
        texts[:] = [element.encode() for element in flat]
        return texts
    with np.errstate(over="raise"):  # numpy would only warn, and make it infinite
        if datatype is Datatype.BF16:
            return stored(np.array(flat, np.float32), datatype)
        if datatype not in FLOATS and any(isinstance(element, float) for element in flat):
            raise TypeError("there are numbers with a fraction")  # numpy would cut it off
        return np.array(flat, STORAGE[datatype])


def _from_npz(file: Path, inputs: Sequence[TensorSpec]) -> list[Tensor]:
    with zipfile.ZipFile(file) as archive:
        size = sum([each.file_size for each in archive.infolist()])
    if size > SAMPLE_BYTES:
        raise ValueError(f"holds {size} bytes; a sample has at most {SAMPLE_BYTES}")
    datatypes = {spec.name: spec.datatype for spec in inputs}
    with np.load(file, allow_pickle=False) as arrays:
        found = [(name, arrays[name]) for name in arrays.files]
    for name, array in found:
        if not isinstance(array, np.ndarray):  # numpy returns other files of an archive as bytes
            raise ValueError(f"{name!r} is no array of numpy")
    return [_of_numpy(name, array, datatypes.get(name)) for name, array in found]


def _of_numpy(name: str, array: Array, datatype: Datatype | None) -> Tensor:
    """An array as an input of the datatype; for floats and texts, any numpy dtype of that kind is converted."""
    if datatype is None:
        return Tensor(name, Datatype.FP32, array)  # an unknown name, which `conform` reports
    if datatype is Datatype.BYTES and array.dtype.kind in "SU":
        texts = np.empty(array.size, np.object_)
        texts[:] = [each if isinstance(each, bytes) else each.encode() for each in array.ravel().tolist()]
        return Tensor(name, datatype, texts.reshape(array.shape))
    if datatype is Datatype.BF16 and array.dtype.kind == "f":
        return Tensor(name, datatype, stored(array, datatype))
    if not np.can_cast(array.dtype, STORAGE[datatype], "same_kind"):
        raise ValueError(f"input {name!r} has the dtype {array.dtype}; expected {datatype}")
    return Tensor(name, datatype, np.ascontiguousarray(array.astype(STORAGE[datatype])).reshape(array.shape))
