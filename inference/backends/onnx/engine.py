"""ONNX Runtime as an engine: what the gateway asks of it and of its files, without importing it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sluice.inference.backends.base import UNKNOWN_VERSION, UnloadedModel
from sluice.inference.backends.onnx.model_file import external_files, random_operators
from sluice.inference.findings import Explanation

DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
    "onnxruntime-cann",
    "onnxruntime-qnn",
    "onnxruntime-training",
)
"""Distributions that install the package `onnxruntime`, in the order in which they are looked for."""


class OnnxRuntime:
    """See `Engine`. What takes long to import is imported where it is used: the gateway starts without it."""

    name = "onnxruntime"
    platform = "onnx_onnxv1"
    model_file = "model.onnx"

    def version(self) -> str:
        """The version of whichever distribution is installed; see `DISTRIBUTIONS`."""
        return _installed_version()

    def external_files(self, model_file: Path) -> tuple[str, ...]:
        """The files that hold weights of the model."""
        return external_files(model_file)

    def random_operators(self, model_file: Path) -> tuple[str, ...]:
        """The kinds of operators that draw random numbers, in loops, branches and functions too."""
        return random_operators(model_file)

    def explain(self, model_file: Path) -> Explanation:
        """The proof from the graph, operator by operator."""
        from sluice.inference.backends.onnx.proof import explain
        from sluice.inference.backends.onnx.tensor_outputs import tensor_outputs

        return explain(model_file, tensor_outputs(model_file).tensors or None)

    def model(self, model_file: Path) -> UnloadedModel:
        """The model, and ONNX Runtime imported for it."""
        from sluice.inference.backends.onnx.unloaded import OnnxModel

        return OnnxModel(model_file)


@cache
def _installed_version() -> str:
    # Only the gateway asks, and a worker would carry what reads metadata, such as the parser of mails, for nothing.
    from importlib.metadata import PackageNotFoundError, version

    for distribution in DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return UNKNOWN_VERSION
