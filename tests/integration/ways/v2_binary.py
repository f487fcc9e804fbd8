"""The Open Inference Protocol V2 over REST, with binary tensors and with nested lists."""

from __future__ import annotations

import json

import numpy as np

from sluice.inference.types import STORAGE, Datatype
from tests.integration.server import SluiceProcess
from tests.integration.ways import Arrays
from tests.integration.ways.v2_rest import DATATYPES

LENGTH = "Inference-Header-Content-Length"


def binary(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    tensors = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": DATATYPES[array.dtype],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    return _sent(server, model, head, b"".join(array.tobytes() for array in inputs.values()))


def raw(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays | None:
    if len(inputs) != 1:
        return None
    [array] = inputs.values()
    return _sent(server, model, b"", array.tobytes())


def nested(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    tensors = [
        {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype], "data": array.tolist()}
        for name, array in inputs.items()
    ]
    answer = server.infer(model, {"inputs": tensors})
    assert answer.status_code == 200, answer.text
    return {
        each["name"]: np.array(each["data"], STORAGE[Datatype(each["datatype"])]).reshape(each["shape"])
        for each in answer.json()["outputs"]
    }


def _sent(server: SluiceProcess, model: str, head: bytes, tensors: bytes) -> Arrays:
    answer = server.client.post(
        f"/v2/models/{model}/infer", content=head + tensors, headers={LENGTH: str(len(head)), "Accept-Encoding": ""}
    )
    assert answer.status_code == 200, answer.text
    at = int(answer.headers[LENGTH])
    outputs = {}
    for each in json.loads(answer.content[:at])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        values = np.frombuffer(answer.content[at : at + size], STORAGE[Datatype(each["datatype"])])
        outputs[each["name"]] = values.reshape(each["shape"])
        at += size
    assert at == len(answer.content)
    return outputs


WAYS = {"v2 binary": binary, "v2 raw": raw, "v2 nested": nested}
