"""What an engine is, and what it makes of a model file: as much as the other rooms know of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sluice.inference.findings import Explanation, RowsProof
from sluice.inference.types import Arrays, TensorSpec

UNKNOWN_VERSION = "unknown"
"""The version of an engine that is not installed in this environment."""


class Backend(Protocol):
    """One loaded model. It lives in a worker process, is called by one thread, and keeps nothing of a call."""

    inputs: tuple[TensorSpec, ...]
    """As the engine reports them, in the model's own order."""

    outputs: tuple[TensorSpec, ...]
    """Likewise. An output of unknown rank is reported with the shape `()`."""

    axis_names: Mapping[str, str]
    """The name that the model gives to axis 0 of an input or output, for those to which it gives one."""

    checks_integers: bool
    """Whether it refuses indices outside a table. A kernel on a GPU may read beyond the table, and fail for good."""

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        """The named outputs, in the order of the names, in storage dtypes, not shared with the inputs.

        `arrays` are in the order of `inputs` and are not written to. Raises `ModelFailed` with the engine's words.
        """
        ...


class UnloadedModel(Protocol):
    """A model file in a worker process: what is known of it before the engine loads it."""

    notes: tuple[str, ...]
    """In which ways the outputs served differ from those in the file, in plain words."""

    class_names: dict[str, tuple[str, ...]]
    """The names that the file has for the columns of an output, by output."""

    def prove(self) -> RowsProof:
        """What the file itself says of the rows of a batch. Raises nothing; may run in a thread beside `load`."""
        ...

    def load(self, device: str, intra_op_threads: int, apart: Sequence[str] = ()) -> Backend:
        """Loads the model. Raises `ModelLoadError` with the engine's words.

        `apart` are files of weights outside the model's folder that the engine may read, by the model's names for them.
        """
        ...


class Engine(Protocol):
    """An engine that runs models. To make one, or to ask it about a file, does not import the engine itself."""

    name: str
    """What it is called in metrics, pages and cache keys."""

    platform: str
    """What the metadata pages of the Open Inference Protocol call a model of this engine."""

    model_file: str
    """The name of the file in a version's folder that it runs. Its suffix tells whose a model file is."""

    def version(self) -> str:
        """The version of the engine that is installed here; `UNKNOWN_VERSION` if none is."""
        ...

    def external_files(self, model_file: Path) -> tuple[str, ...]:
        """The further files that loading the model reads, by its own names for them, relative to its folder.

        Empty for a file that is no model: the engine says so when it loads it. Raises `OSError`.
        """
        ...

    def random_operators(self, model_file: Path) -> tuple[str, ...]:
        """The kinds of operators in the model that draw random numbers, in alphabetical order. Raises nothing."""
        ...

    def explain(self, model_file: Path) -> Explanation:
        """The proof of `UnloadedModel.prove`, with what is known of each tensor on the way. Raises nothing."""
        ...

    def model(self, model_file: Path) -> UnloadedModel:
        """A model file that is to be loaded.

        For worker processes alone: it imports the engine, and raises whatever a broken installation raises.
        """
        ...
