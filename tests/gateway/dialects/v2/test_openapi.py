from __future__ import annotations

import json
import math
from typing import Any

import pytest

from sluice.gateway.dialects.v2.binary import BINARY_LENGTH
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.dialects.v2.openapi import prediction_paths
from sluice.gateway.headers.cache_control import CACHE_CONTROL
from sluice.gateway.headers.timeouts import REQUEST_TIMEOUT
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import LOWEST_PRIORITY
from tests.gateway.dialects.bodies import body_of, decode

PATHS = V2().openapi_paths()


def operations() -> list[tuple[str, dict[str, Any]]]:
    return [(path, item["post"]) for path, item in PATHS.items()]


def test_both_routes_are_there_and_are_recognised() -> None:
    assert set(PATHS) == {"/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"}
    for path in PATHS:
        assert V2().recognise(path.replace("{model}", "m").replace("{version}", "1")) is not None


def test_every_variable_of_a_path_is_described() -> None:
    for path, operation in operations():
        variables = [parameter for parameter in operation["parameters"] if parameter["in"] == "path"]
        names = [parameter["name"] for parameter in variables]
        assert names == [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        assert all(parameter["required"] for parameter in variables)


def test_the_ways_to_give_a_deadline_and_a_priority_are_described() -> None:
    for _, operation in operations():
        headers = [parameter for parameter in operation["parameters"] if parameter["in"] == "header"]
        names = [header["name"].lower().encode() for header in headers]
        assert names == [REQUEST_TIMEOUT, CACHE_CONTROL, BINARY_LENGTH]
        assert not any(header["required"] for header in headers)
        assert "X-Cache" in operation["responses"]["200"]["headers"]
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        parameters = request["properties"]["parameters"]["properties"]
        assert set(parameters) == {"timeout", "priority", "binary_data_output"}
        assert parameters["priority"]["maximum"] == LOWEST_PRIORITY
        assert "Retry-After" in operation["responses"]["503"]["headers"]


def test_operation_ids_differ() -> None:
    assert len({operation["operationId"] for _, operation in operations()}) == len(PATHS)


def test_it_is_json_without_references() -> None:
    assert "$ref" not in json.dumps(PATHS)


def test_every_call_makes_a_new_value() -> None:
    prediction_paths()["/v2/models/{model}/infer"]["post"]["responses"].clear()
    assert prediction_paths() == PATHS


@pytest.mark.parametrize("name", ["linear", "digits"])
def test_request_examples_can_be_run(name: str) -> None:
    for _, operation in operations():
        example = operation["requestBody"]["content"]["application/json"]["examples"][name]["value"]
        [tensor] = decode(json.dumps(example).encode()).inputs
        assert tensor.array.size == math.prod(example["inputs"][0]["shape"])


def test_every_status_of_the_dialect_is_described() -> None:
    for _, operation in operations():
        assert set(operation["responses"]) == {"200", "400", "404", "413", "500", "503", "504"}
        for status, response in operation["responses"].items():
            schema = response["content"]["application/json"]["schema"]
            assert schema["required"] == (["model_name", "model_version", "outputs"] if status == "200" else ["error"])


def test_the_example_of_a_refusal_is_what_is_said() -> None:
    example = PATHS["/v2/models/{model}/infer"]["post"]["responses"]["400"]["content"]["application/json"]["example"]
    with pytest.raises(InvalidRequest) as caught:
        decode(body_of("[1,2,3]", [1, 1]))
    assert str(caught.value) == example["error"]
