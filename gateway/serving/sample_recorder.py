"""Recording a sample: the inputs of the next valid request are written beside its model, on an operator's word."""

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
    """The walk of one model version, of which one request may be recorded.

    Nothing is recorded unless `record_next` was called. Then the inputs of the next request with rows that is answered,
    the first rows only, become the `sample.json` of the model's folder; that request waits until it is written. What
    cannot be written is logged, and the request is answered all the same. A file that is there is never written over.
    """

    def __init__(self, walk: Stage, model: str, model_file: Path) -> None:
        self._walk = walk
        self._model = model
        self._model_file = model_file
        self._wanted = False

    def walk(self, request: InferenceRequest, trace: Trace | None) -> Coroutine[Any, Any, InferenceResponse]:
        """One request's way."""
        return self._recorded(request, trace) if self._wanted else self._walk(request, trace)

    def record_next(self) -> Path:
        """Have the next request recorded, and say where. Raises `InvalidRequest` where there is a sample already."""
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
    """Writes the file whole or not at all. Raises `OSError`, also where it is there, and `SampleFault`."""
    content = sample_json(inputs)
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.") as whole:
        whole.write(content)
        whole.flush()
        os.link(whole.name, file)
        file.chmod(0o644)
