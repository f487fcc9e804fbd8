"""Sessions of ONNX Runtime. Only this module imports it, and only worker processes import this module.

Source: the Python API of ONNX Runtime, https://onnxruntime.ai/docs/api/python/api_summary.html
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sluice.inference.backends.onnx.model_file import shapeless_inputs
from sluice.inference.backends.onnx.tensor_outputs import TensorOutputs, edited, tensor_outputs
from sluice.inference.errors import ModelFailed, ModelLoadError
from sluice.inference.types import Array, Arrays, Datatype, TensorSpec

# Linux builds send telemetry about models and the machine unless this is set before they are imported.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

_DATATYPES: Mapping[str, Datatype] = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}
_ONNX_BFLOAT16 = 16
_NO_TENSORS: Mapping[str, tuple[str, str]] = {
    "seq(map(": ("a sequence of maps", "a tensor in its place, which has a row for each map"),
    "seq(": ("a sequence", "a tensor for each element in its place, or one that holds them all"),
    "map(": ("a map", "a tensor in its place, which has a column for each key"),
    "optional(": ("optional", "a tensor in its place that is always there"),
    "sparse_tensor(": ("a sparse tensor", "a dense one in its place"),
}
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_ERROR, _FATAL = 3, 4


class OnnxBackend:
    """One ONNX model in a session of its own. See `Backend`.

    The constructor raises `ModelLoadError` if the engine cannot load the file; if an input or output is no tensor of an
    Open Inference Protocol datatype; if an input has no shape; if there are both BF16 and BYTES tensors; or if the
    session did not get the requested device.

    `shown` says which outputs are served; without it, that is read from the file.

    ONNX Runtime takes BYTES as UTF-8 text: an input element that is not UTF-8 fails as an invalid input.

    `apart` are files of weights outside the model's folder, by the model's names for them. The engine would refuse to
    read them by itself; the caller has checked that they may be read.
    """

    def __init__(
        self,
        model_file: Path,
        device: str,
        intra_op_threads: int,
        apart: Sequence[str] = (),
        shown: TensorOutputs | None = None,
    ) -> None:
        provider = _provider(device)
        shown = tensor_outputs(model_file) if shown is None else shown
        options = _session_options(intra_op_threads)
        try:
            with ExitStack() as stack:
                if apart:
                    maps = [stack.enter_context(_mapped(model_file.parent / name)) for name in apart]
                    options.add_external_initializers_from_files_in_memory(apart, maps, [len(each) for each in maps])
                self._session = _session(model_file, shown, options, provider)
        except Exception as error:  # the engine's errors have no common base class
            raise ModelLoadError(engine_text(error)) from error
        _check_provider(self._session.get_providers(), provider[0], device)
        inputs = [_spec("input", node) for node in self._session.get_inputs()]
        _check_shapes(model_file, self._session.get_inputs())
        told = {output.name: output.shape for output in shown.outputs}
        self.inputs = tuple(inputs)
        self.outputs = tuple([_shaped(_spec("output", node), told) for node in self._session.get_outputs()])
        self.axis_names = _axis_names([*self._session.get_inputs(), *self._session.get_outputs()])
        self.checks_integers = device == "cpu"
        self._output_types = {spec.name: spec.datatype for spec in self.outputs}
        datatypes = {spec.datatype for spec in (*self.inputs, *self.outputs)}
        if {Datatype.BF16, Datatype.BYTES} <= datatypes:
            raise ModelLoadError(
                "the model has both BF16 and BYTES tensors, which ONNX Runtime takes by different ways of calling; "
                "export it with FP32 in place of BF16, or without the BYTES"
            )
        self._has_bfloat16 = Datatype.BF16 in datatypes
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL  # the caller is told about a failed run; the log need not be

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        """The named outputs. See `Backend.run`."""
        feed = {
            spec.name: _to_text(spec.name, array) if spec.datatype is Datatype.BYTES else array
            for spec, array in zip(self.inputs, arrays, strict=True)
        }
        try:
            values = self._run_bound(feed, outputs) if self._has_bfloat16 else self._run(feed, outputs)
        except InvalidArgument as error:
            raise ModelFailed(engine_text(error), invalid_input=True) from error
        except Exception as error:  # the engine's errors have no common base class
            raise ModelFailed(engine_text(error)) from error
        return tuple([_from_text(value) if value.dtype.hasobject else value for value in values])

    def _run(self, feed: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        values: list[Array] = self._session.run(outputs, feed, self._run_options)
        return values

    def _run_bound(self, feed: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """As `_run`, for models with BF16: the engine takes and gives BF16 only as bound values."""
        binding = self._session.io_binding()
        for spec in self.inputs:
            array = feed[spec.name]
            if spec.datatype is Datatype.BF16:
                value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
                binding.bind_ortvalue_input(spec.name, value)
            else:
                binding.bind_cpu_input(spec.name, array)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, self._run_options)
        values = zip(outputs, binding.get_outputs(), strict=True)
        return [_bits(value) if self._output_types[name] is Datatype.BF16 else value.numpy() for name, value in values]


def engine_text(error: Exception) -> str:
    """The first line of the engine's message, without error codes, source lines and asserted expressions."""
    text = str(error).strip() or type(error).__name__
    text = text.splitlines()[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"\S+\.(?:h|hpp|cc|cpp|cu|cuh):\d+ (?:.*? was false\. ?)?", "", text)
    text = re.sub(r"(?<![\w.])(?:/[^/\s:]+)+/([^/\s:]+)", r"\1", text)
    return text.strip()


def _session(
    model_file: Path, shown: TensorOutputs, options: ort.SessionOptions, provider: tuple[str, dict[str, str]]
) -> ort.InferenceSession:
    if not shown.edits:
        return ort.InferenceSession(model_file, options, providers=[provider], enable_fallback=0)
    # From bytes in memory, the engine cannot tell in which folder the weights are.
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(model_file.parent))
    session = ort.InferenceSession(edited(model_file, shown), options, providers=[provider], enable_fallback=0)
    session._model_bytes = None  # the session keeps them for a second try on another device, which is never made
    return session


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap | bytes]:
    """The content of a file, mapped while the engine copies it."""
    with file.open("rb") as content:
        if not os.fstat(content.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            yield mapped


def _session_options(intra_op_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # No warnings: there would be one for each batch whose outputs differ from the declared size, such as labels of one
    # row.
    options.log_severity_level = _ERROR
    # Threads that spin while they wait would use cores that the gateway needs between two batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _provider(device: str) -> tuple[str, dict[str, str]]:
    if device == "cpu":
        return "CPUExecutionProvider", {}
    index = re.fullmatch(r"cuda:(\d+)", device)
    if index is None:
        raise ModelLoadError(f"there is no device {device!r}; give 'cpu' or 'cuda:N' with the number of a GPU")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise _no_cuda(device)
    return "CUDAExecutionProvider", {"device_id": index[1]}


def _check_provider(actual: Sequence[str], wanted: str, device: str) -> None:
    """Raises `ModelLoadError` unless the session runs on its device: the engine falls back to the CPU silently."""
    if not actual or actual[0] != wanted:
        raise _no_cuda(device)


def _check_shapes(model_file: Path, inputs: Sequence[Any]) -> None:
    """Refuses inputs of unknown rank. The engine reports them like single values, so the file is read to tell them."""
    if all(node.shape for node in inputs):
        return
    shapeless = shapeless_inputs(model_file)
    for node in inputs:
        if node.name in shapeless:
            raise ModelLoadError(f"input {node.name!r} declares no shape; export it with one")


def _no_cuda(device: str) -> ModelLoadError:
    return ModelLoadError(
        f"the model is to run on {device}, but ONNX Runtime gives no CUDA session here: install "
        "onnxruntime-gpu in place of onnxruntime, with the CUDA and cuDNN versions that it asks for, and check that "
        "nvidia-smi lists the GPU"
    )


def _spec(kind: str, node: Any) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise ModelLoadError(f"{kind} {node.name!r} {_no_tensor(kind, node.type)}")
    shape = tuple([size if isinstance(size, int) and size >= 0 else None for size in node.shape])
    return TensorSpec(node.name, datatype, shape)


def _shaped(spec: TensorSpec, told: Mapping[str, tuple[int | None, ...]]) -> TensorSpec:
    """The spec, with sizes that only the file knows."""
    shape = told.get(spec.name, ())
    if not spec.shape:
        return TensorSpec(spec.name, spec.datatype, shape)
    if len(shape) != len(spec.shape):
        return spec
    known = [size if size is not None else said for size, said in zip(spec.shape, shape, strict=True)]
    return TensorSpec(spec.name, spec.datatype, tuple(known))


def _no_tensor(kind: str, type_name: str) -> str:
    """What is wrong with an input or output of this type that is no usable tensor, and what would be right."""
    if type_name.startswith("tensor("):
        known = ", ".join(known[7:-1] for known in _DATATYPES)
        return f"has the type {type_name}, which no request can carry; give it one of the types {known}"
    for beginning, (what, right) in _NO_TENSORS.items():
        if type_name.startswith(beginning):
            return f"is {what} ({type_name}), which no request can carry; export the model with {right}"
    return f"has the type {type_name}, which no request can carry; export the model with a tensor in its place"


def _axis_names(nodes: Sequence[Any]) -> Mapping[str, str]:
    return {node.name: node.shape[0] for node in nodes if node.shape and isinstance(node.shape[0], str)}


def _to_text(name: str, array: Array) -> Array:
    elements = array.ravel().tolist()
    text = np.empty(len(elements), np.object_)
    for index, element in enumerate(elements):
        try:
            text[index] = element.decode()
        except UnicodeDecodeError as error:
            raise ModelFailed(
                f"element {index} of input {name!r} is not UTF-8 text (byte {error.start} is "
                f"0x{element[error.start]:02x}); ONNX Runtime takes no other BYTES",
                invalid_input=True,
            ) from error
    return text.reshape(array.shape)


def _from_text(array: Array) -> Array:
    encoded = np.empty(array.size, np.object_)
    encoded[:] = [element.encode() for element in array.ravel().tolist()]
    return encoded.reshape(array.shape)


def _bits(value: Any) -> Array:
    """The 16 bits of each BF16 element. The engine cannot make a numpy array of them, but gives their address."""
    shape = tuple(value.shape())
    size = math.prod(shape)
    if size == 0:
        return np.empty(shape, np.uint16)
    return np.frombuffer(ctypes.string_at(value.data_ptr(), 2 * size), np.uint16).reshape(shape)
