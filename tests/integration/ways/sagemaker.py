"""SageMaker's `/invocations` names no model: a server of its own for each, with the others left out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.integration.server import SluiceProcess, serving
from tests.integration.ways import Arrays
from tests.integration.ways.tfs import outputs_of

EXAMPLES = Path(__file__).parents[3] / "examples" / "models"


@contextmanager
def _alone(model: str) -> Iterator[SluiceProcess]:
    with serving(EXAMPLES / model) as server:
        yield server


def rows_json(_: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    count = len(next(iter(inputs.values())))
    instances = [{name: array[row].tolist() for name, array in inputs.items()} for row in range(count)]
    with _alone(model) as server:
        answer = server.client.post("/invocations", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        rows, outputs = answer.json()["predictions"], outputs_of(server, model)
    if len(outputs) == 1:
        [(name, dtype)] = outputs.items()
        return {name: np.array(rows, dtype)}
    return {name: np.array([each[name] for each in rows], dtype) for name, dtype in outputs.items()}


def csv(_: SluiceProcess, model: str, inputs: Arrays) -> Arrays | None:
    """Of one input, whose rows are lines; the lines of the answer hold all outputs side by side."""
    if len(inputs) != 1:
        return None
    [array] = inputs.values()
    lines = "".join(",".join(map(repr, row)) + "\n" for row in array.reshape(len(array), -1).tolist())
    with _alone(model) as server:
        headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
        answer = server.client.post("/invocations", content=lines, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv"), answer.text
        cells = [line.split(",") for line in answer.text.splitlines()]
        about = server.client.get(f"/v2/models/{model}").json()["outputs"]
        dtypes = outputs_of(server, model)
    outputs, begin = {}, 0
    for each in about:
        shape = each["shape"][1:]
        width = int(np.prod(shape))
        values = [row[begin : begin + width] for row in cells]
        outputs[each["name"]] = np.array(values, np.float64).astype(dtypes[each["name"]]).reshape(-1, *shape)
        begin += width
    return outputs


def npy(_: SluiceProcess, model: str, inputs: Arrays) -> Arrays | None:
    """Of one input and one output, as an array is all that there is room for."""
    file = io.BytesIO()
    [array] = inputs.values()
    np.save(file, array)
    with _alone(model) as server:
        outputs = outputs_of(server, model)
        if len(outputs) != 1:
            return None
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        answer = server.client.post("/invocations", content=file.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text
    return {next(iter(outputs)): np.load(io.BytesIO(answer.content), allow_pickle=False)}


WAYS = {"sagemaker json": rows_json, "sagemaker csv": csv, "sagemaker npy": npy}
