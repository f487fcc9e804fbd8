from __future__ import annotations

from sluice.gateway.dialects.openapi_parts import error_schema, header_parameter, model_parameter, refusals
from sluice.gateway.protocols import DIALECTS


def test_every_call_makes_new_values() -> None:
    for dialect in DIALECTS:
        before, changed = dialect.openapi_paths(), dialect.openapi_paths()
        for path in changed.values():
            for operation in path.values():
                operation["responses"].clear()
                for parameter in operation.get("parameters", ()):
                    parameter["schema"].clear()
        assert dialect.openapi_paths() == before


def test_a_header_may_be_left_out_and_a_part_of_the_path_may_not() -> None:
    header = header_parameter("H", "", {})
    assert (header["in"], header["required"]) == ("header", False)
    assert (model_parameter()["in"], model_parameter()["required"]) == ("path", True)


def test_examples_are_one_or_named() -> None:
    assert model_parameter()["example"] == "linear"
    assert "example" not in model_parameter(examples={"m": {"value": "m"}})


def test_refusals_do_not_share_their_schema() -> None:
    responses = refusals({"400": "a", "404": "b"}, error_schema())
    first, second = (each["content"]["application/json"]["schema"] for each in responses.values())
    assert first == second == error_schema()
    assert first is not second
    assert first["properties"] is not second["properties"]
