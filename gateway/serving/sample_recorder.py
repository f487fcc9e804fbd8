"""Records a sample: on request, the inputs of the next valid request are written to a file beside the model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from sluice.gateway.serving.stages import Stage
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import InvalidRequest
from sluice.inference.repository.sample import SampleFault, find_sample, sample_json, sample_place
from sluice.inference.types import InferenceRequest, InferenceResponse, Tensor, Trace


class SampleRecorder:
    """Passes the requests of one model version on, and records one of them after each call of `record_next`.

    Recorded are the first rows of the next request that has rows and is answered: they become the `sample.json` in the
    model's folder. That request waits until the file is written. If it cannot be written, that is logged, and the
    request is answered all the same. An existing file is never overwritten.
    """

    def __init__(self, walk: Stage, model: str, model_file: Path) -> None:
        self._walk = walk
        self._model = model
        self._model_file = model_file
        self._wanted = False

    def walk(self, request: InferenceRequest, trace: Trace | None) -> Coroutine[Any, Any, InferenceResponse]:
        """Answer one request."""
        return self._recorded(request, trace) if self._wanted else self._walk(request, trace)

    def record_next(self) -> Path:
        """Have the next request recorded. Returns the file's path. Raises `InvalidRequest` if one exists."""
        if (there := find_sample(self._model_file)) is not None:
            raise InvalidRequest(f"there is a sample already, {there.path}; move it away to have another recorded")
        self._wanted = True
        return sample_place(self._model_file)

    async def _recorded(self, request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        response = await self._walk(request, trace)
        if self._wanted and all(tensor.array.size for tensor in request.inputs):
            self._wanted = False
            file = sample_place(self._model_file)
            told = log.bind(model=self._model, sample=str(file))
            try:
                await asyncio.to_thread(_write, file, request.inputs)
                told.info("sample recorded; load the model again to have it tried with it")
            except SampleFault as fault:
                told.warning("the sample was not recorded", because=str(fault))
            except OSError as error:
                told.warning("the sample was not recorded", because=error.strerror or str(error))
        return response


def _write(file: Path, inputs: Sequence[Tensor]) -> None:
    """Write the file completely or not at all. Raises `OSError`, also where it exists, and `SampleFault`."""
    content = sample_json(inputs)
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.") as whole:
        whole.write(content)
        whole.flush()
        os.link(whole.name, file)
        file.chmod(0o644)
