"""What a backend is: an engine with one model in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sluice.inference.types import Arrays, TensorSpec


class Backend(Protocol):
    """One loaded model. Lives in a worker process, is called by one thread, and keeps nothing of a call."""

    inputs: tuple[TensorSpec, ...]
    """As the engine reports them, in the model's own order."""

    outputs: tuple[TensorSpec, ...]
    """Likewise. An output of unknown rank is reported with the shape `()`."""

    axis_names: Mapping[str, str]
    """The name that the model gives to axis 0 of an input or output, for those to which it gives one."""

    checks_integers: bool
    """Whether it refuses places outside a table. Kernels on a GPU may read whatever lies there, and fail for good."""

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        """The named outputs, in the order of the names, in storage dtypes, not shared with the inputs.

        `arrays` are in the order of `inputs` and are not written to. Raises `ModelFailed` with the engine's words.
        """
        ...
