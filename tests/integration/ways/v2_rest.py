"""The Open Inference Protocol V2 over REST."""

from __future__ import annotations

import numpy as np

from sluice.inference.types import STORAGE, Datatype
from tests.integration.server import SluiceProcess
from tests.integration.ways import Arrays

DATATYPES = {dtype: datatype for datatype, dtype in STORAGE.items() if datatype is not Datatype.BF16}


def flat_json(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    body = {
        "inputs": [
            {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype], "data": array.ravel().tolist()}
            for name, array in inputs.items()
        ]
    }
    answer = server.infer(model, body)
    assert answer.status_code == 200, answer.text
    return {
        each["name"]: np.array(each["data"], STORAGE[Datatype(each["datatype"])]).reshape(each["shape"])
        for each in answer.json()["outputs"]
    }


WAYS = {"v2 json": flat_json}
