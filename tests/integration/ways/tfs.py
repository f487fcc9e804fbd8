"""TensorFlow Serving's REST API: rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.inference.types import STORAGE, Datatype
from tests.integration.server import SluiceProcess
from tests.integration.ways import Arrays


def rows(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    count = len(next(iter(inputs.values())))
    instances = [{name: array[row].tolist() for name, array in inputs.items()} for row in range(count)]
    predictions = _asked(server, model, {"instances": instances})["predictions"]
    outputs = outputs_of(server, model)
    if len(outputs) == 1:
        [(name, dtype)] = outputs.items()
        return {name: np.array(predictions, dtype)}
    return {name: np.array([each[name] for each in predictions], dtype) for name, dtype in outputs.items()}


def columns(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    told = _asked(server, model, {"inputs": {name: array.tolist() for name, array in inputs.items()}})["outputs"]
    outputs = outputs_of(server, model)
    if len(outputs) == 1:
        told = {next(iter(outputs)): told}
    return {name: np.array(told[name], dtype) for name, dtype in outputs.items()}


def _asked(server: SluiceProcess, model: str, body: dict[str, Any]) -> Any:
    answer = server.client.post(f"/v1/models/{model}:predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def outputs_of(server: SluiceProcess, model: str) -> dict[str, np.dtype[Any]]:
    about = server.client.get(f"/v2/models/{model}").json()["outputs"]
    return {each["name"]: STORAGE[Datatype(each["datatype"])] for each in about}


WAYS = {"tfs rows": rows, "tfs columns": columns}
