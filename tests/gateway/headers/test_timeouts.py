from __future__ import annotations

import pytest

from sluice.gateway.headers.timeouts import timeout_s, within_timeout
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import InferenceRequest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"250", 0.25), (b"0.5", 0.0005), (b"0001", 0.001), (b" 20\t", 0.02), (b"999999999999999", 999999999999.999)],
)
def test_a_timeout_is_a_decimal_number_of_milliseconds(value: bytes, seconds: float) -> None:
    assert timeout_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", b"0", b"0.000", b"-1", b"+1", b"1e3", b"1.", b".5", b"1,5", b"1 5", b"inf", b"nan", b"0x10"),
        *(b"1_000", b"250ms", b"9" * 400, b"1." + b"9" * 400, "٣".encode(), b"\xff\x00", b"1\n"),
    ],
)
def test_everything_else_is_refused_in_few_words(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"X-Request-Timeout-Ms is .*expected a number of milliseconds") as caught:
        timeout_s(value)
    assert len(str(caught.value)) < 300


def test_without_a_timeout_the_request_is_the_same() -> None:
    request = InferenceRequest(())
    assert within_timeout(request, [(b"x-request-id", b"1")], 0.1) is request


def test_the_shortest_timeout_counts_and_runs_from_when_the_call_was_complete() -> None:
    header = (b"x-request-timeout-ms", b"500")

    def left_s(body_s: float | None, *headers: tuple[bytes, bytes]) -> float | None:
        return within_timeout(InferenceRequest((), timeout_s=body_s), headers, 0.1).timeout_s

    assert left_s(None, header) == pytest.approx(0.4)
    assert left_s(0.2, header) == pytest.approx(0.1)
    assert left_s(0.9, header) == pytest.approx(0.4)
    assert left_s(0.2) == pytest.approx(0.1)
    assert left_s(0.05) == pytest.approx(-0.05)
    assert left_s(None, header, (b"x-request-timeout-ms", b"300")) == pytest.approx(0.2)


def test_the_rest_of_the_request_stays() -> None:
    request = InferenceRequest((), ("y",), "id", {"a": 1}, None, 2, "me")
    timed = within_timeout(request, [(b"x-request-timeout-ms", b"1000")], 0.0)
    assert timed == InferenceRequest((), ("y",), "id", {"a": 1}, 1.0, 2, "me")
