from __future__ import annotations

import json
from typing import Any

import pytest

from sluice.gateway.dialects.v2.body import decode_by_lists, decode_by_tape
from sluice.gateway.dialects.v2.schedule import schedule_of
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import DEFAULT_PRIORITY, LOWEST_PRIORITY, InferenceRequest
from tests.gateway.dialects.bodies import body_of, decode, signature_of


def asked(**parameters: Any) -> InferenceRequest:
    return decode(body_of("[1]", [1], rest=f',"parameters":{json.dumps(parameters)}'))


def test_a_timeout_is_in_microseconds() -> None:
    assert asked(timeout=1).timeout_s == pytest.approx(1e-6)
    assert asked(timeout=2_500_000).timeout_s == pytest.approx(2.5)
    assert asked(timeout=2**63 - 1).timeout_s == pytest.approx((2**63 - 1) / 1e6)


def test_priorities_are_from_one_to_the_lowest() -> None:
    for priority in range(1, LOWEST_PRIORITY + 1):
        assert asked(priority=priority).priority == priority


def test_zero_is_the_same_as_nothing() -> None:
    for request in (asked(timeout=0, priority=0), asked(), decode(body_of("[1]", [1]))):
        assert (request.timeout_s, request.priority) == (None, DEFAULT_PRIORITY)


def test_what_says_when_is_no_parameter_of_the_model() -> None:
    assert dict(asked(timeout=7, priority=2, seed=3).parameters) == {"seed": 3}
    assert dict(asked(seed=3).parameters) == {"seed": 3}


@pytest.mark.parametrize("value", [-1, 1.0, 0.5, True, False, "1000", "", 2**63, 10**30, -(2**63)])
def test_other_timeouts_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"parameter 'timeout' is .*; expected a whole number of microseconds"):
        asked(timeout=value)


@pytest.mark.parametrize("value", [-1, LOWEST_PRIORITY + 1, 1.0, True, False, "1", "high", 2**40])
def test_other_priorities_are_refused(value: Any) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"parameter 'priority' is .*; .*from 1, the highest, to {LOWEST_PRIORITY}"
    ):
        asked(priority=value)


def test_a_long_value_makes_a_short_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        schedule_of({"timeout": "9" * 10**6})
    assert len(str(caught.value)) < 300


def test_large_bodies_are_no_exception() -> None:
    data, rest = "[" + "1," * 2999 + "1]", ',"parameters":{"timeout":1500,"priority":2}'
    body = body_of(data, [3000], rest=rest)
    by_tape = decode_by_tape(body)
    assert by_tape is not None
    for request in (by_tape, decode_by_lists(body, signature_of()), decode(body)):
        assert (request.timeout_s, request.priority) == (0.0015, 2)
    with pytest.raises(InvalidRequest, match="parameter 'priority' is 77"):
        decode(body_of(data, [3000], rest=',"parameters":{"priority":77}'))


def test_a_number_beyond_every_float_is_refused_like_others() -> None:
    with pytest.raises(InvalidRequest, match="parameter 'timeout' is 1000"):
        decode(body_of("[1]", [1], rest=f',"parameters":{{"timeout":1{"0" * 400}}}'))
