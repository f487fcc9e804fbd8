"""An ONNX file in a worker process, before and while ONNX Runtime loads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sluice.inference.backends.base import Backend
from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.backends.onnx.tensor_outputs import tensor_outputs
from sluice.inference.findings import RowsProof


class OnnxModel:
    """See `UnloadedModel`. The file is read when this is made; which outputs are served is known from then on."""

    def __init__(self, model_file: Path) -> None:
        self._file = model_file
        self._shown = tensor_outputs(model_file)
        self.notes = self._shown.notes
        self.class_names = {output.name: output.classes for output in self._shown.outputs if output.classes}

    def prove(self) -> RowsProof:
        """What the graph says of the rows of the served outputs. See `UnloadedModel.prove`."""
        from sluice.inference.backends.onnx.proof import prove  # here: most workers load without a proof, and sooner

        return prove(self._file, self._shown.tensors or None)

    def load(self, device: str, intra_op_threads: int, apart: Sequence[str] = ()) -> Backend:
        """A session of its own. See `UnloadedModel.load`, and `OnnxBackend` for what cannot be loaded."""
        return OnnxBackend(self._file, device, intra_op_threads, apart, self._shown)
