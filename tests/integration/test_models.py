"""Models of every kind, served from files as a user has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.inference.types import Datatype
from tests import models
from tests.integration.server import serving, v2
from tests.integration.test_bad_days import write_model


def test_a_bare_onnx_file_needs_no_configuration(tmp_path: Path) -> None:
    with serving(models.place(models.linear(), tmp_path, "double.onnx")) as server:
        assert server.outputs("double", v2("x", [2, 1], [[3], [10]])) == {"y": [5.0, 19.0]}


def test_the_highest_version_answers_when_none_is_named(tmp_path: Path) -> None:
    for version, model in ((2, models.widened(2)), (10, models.widened(10)), (9, models.widened(9))):
        models.place(model, tmp_path / "widened" / str(version))
    with serving(tmp_path) as server:
        columns = {}
        for path in ("", "/versions/2", "/versions/9", "/versions/10"):
            page = server.client.get(f"/v2/models/widened{path}").json()
            body = v2(page["inputs"][0]["name"], [1, *page["inputs"][0]["shape"][1:]], [1.0])
            answer = server.client.post(f"/v2/models/widened{path}/infer", json=body).json()
            columns[path] = answer["model_version"], answer["outputs"][0]["shape"][1]
        assert columns == {"": ("10", 10), "/versions/2": ("2", 2), "/versions/9": ("9", 9), "/versions/10": ("10", 10)}
        assert server.client.get("/v2/models").json()["models"][0]["versions"] == ["2", "9", "10"]


SAMPLES: dict[Datatype, list[Any]] = {
    Datatype.BOOL: [True, False, True],
    Datatype.UINT8: [0, 1, 255],
    Datatype.UINT16: [0, 1, 65535],
    Datatype.UINT32: [0, 1, 2**32 - 1],
    Datatype.UINT64: [0, 1, 2**64 - 1],
    Datatype.INT8: [-128, 0, 127],
    Datatype.INT16: [-(2**15), 0, 2**15 - 1],
    Datatype.INT32: [-(2**31), 0, 2**31 - 1],
    Datatype.INT64: [-(2**63), 0, 2**63 - 1],
    Datatype.FP16: [-1.5, 0.0, 65504.0],
    Datatype.BF16: [-1.5, 0.0, 3.140625],
    Datatype.FP32: [-1.5, 0.1, 3.4028235e38],
    Datatype.FP64: [-1.5, 0.1, 1.7976931348623157e308],
    Datatype.BYTES: ["", "grüße", '\u0000 and \\ and "'],
}


def test_every_datatype_goes_through_and_comes_back_as_it_was(tmp_path: Path) -> None:
    """All models side by side in one repository; three rows, no rows, and two rows of nested data each."""
    for datatype in Datatype:
        models.place(models.identity(datatype, ("N",)), tmp_path / datatype.lower() / "1")
    with serving(tmp_path) as server:
        for datatype, values in SAMPLES.items():
            page = server.client.get(f"/v2/models/{datatype.lower()}").json()
            (spec,), (output,) = page["inputs"], page["outputs"]
            assert (spec["datatype"], spec["shape"]) == (datatype, [-1])
            for data in (values, [], values[:2]):
                body = v2(spec["name"], [len(data)], data, datatype)
                assert server.outputs(datatype.lower(), body) == {output["name"]: data}, datatype


def test_inputs_larger_than_a_slot_are_not_cut_short(tmp_path: Path) -> None:
    """A slot of this model has room for 16 MiB of inputs; these are 20 MB."""
    width = 2_500_000
    with serving(write_model(tmp_path, "wide", models.any_width())) as server:
        data = [1] * width + [2] * width
        assert server.outputs("wide", v2("x", [2, width], data)) == {"sum": [width, 2 * width]}
