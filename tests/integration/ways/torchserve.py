"""TorchServe's `/predictions`: rows by the names of the inputs."""

from __future__ import annotations

import numpy as np

from tests.integration.server import SluiceProcess
from tests.integration.ways import Arrays
from tests.integration.ways.tfs import outputs_of


def named_json(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    body = {name: array.tolist() for name, array in inputs.items()}
    answer = server.client.put(f"/predictions/{model}/1.0", json=body)
    assert answer.status_code == 200, answer.text
    rows, outputs = answer.json(), outputs_of(server, model)
    if len(outputs) == 1:
        [(name, dtype)] = outputs.items()
        return {name: np.array(rows, dtype)}
    return {name: np.array([each[name] for each in rows], dtype) for name, dtype in outputs.items()}


WAYS = {"torchserve json": named_json}
