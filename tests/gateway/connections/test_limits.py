from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest

from sluice.gateway.connections.limits import ConnectionLimits, connection_cap, surplus_connections


@pytest.mark.parametrize("key", ["max_header_bytes", "request_read_timeout_s", "linger_s"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_bound_is_finite_and_above_0(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        replace(ConnectionLimits(), **cast(Any, {key: value}))


def test_nothing_may_be_read_of_a_refused_client() -> None:
    assert ConnectionLimits(linger_bytes=0).linger_bytes == 0
    with pytest.raises(ValueError, match="linger_bytes"):
        ConnectionLimits(linger_bytes=-1)


@pytest.mark.parametrize("wanted", [1, 100, 10_000])
@pytest.mark.parametrize("limit", [64, 300, 1024, 4096, 1_000_000])
def test_the_cap_leaves_room_for_the_surplus_and_for_what_is_reserved(wanted: int, limit: int) -> None:
    cap = connection_cap(wanted, limit, reserved=40)
    assert 1 <= cap <= wanted
    assert cap == 1 or cap + surplus_connections(cap) + 40 <= limit


def test_no_limit_on_descriptors_is_no_cap() -> None:
    assert connection_cap(10_000, -1, reserved=256) == 10_000
