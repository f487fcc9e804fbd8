"""Headers of calls: what is read from those of callers, and how ours are encoded."""

from __future__ import annotations

import hpack
import pytest

from sluice.gateway.grpc.heads import KNOWN, MAX_TOLD_BYTES, Malformed, PlainEncoder, escaped, head_of
from sluice.gateway.messages import Header

PSEUDO: tuple[Header, ...] = ((b":method", b"POST"), (b":path", b"/s/m"))


def test_headers_are_sorted_by_who_reads_them() -> None:
    sent = [*PSEUDO, (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"x-a", b"1")]
    head = head_of(sent)
    assert (head.method, head.path, head.content_type) == (b"POST", b"/s/m", b"application/grpc")
    assert (head.encoding, head.metadata) == (b"identity", ((b"x-a", b"1"),))
    assert head.size_bytes == sum(len(name) + len(value) + 32 for name, value in sent)


@pytest.mark.parametrize(
    "headers",
    [
        PSEUDO[:1],
        PSEUDO[1:],
        (*PSEUDO, PSEUDO[0]),
        (*PSEUDO, (b":status", b"200")),
        ((b"x-a", b"1"), *PSEUDO),
        (*PSEUDO, (b"X-A", b"1")),
        (*PSEUDO, (b"connection", b"close")),
        (*PSEUDO, (b"x-a", b"1\n2")),
    ],
)
def test_headers_that_break_a_rule_are_refused(headers: tuple[Header, ...]) -> None:
    with pytest.raises(Malformed):
        head_of(headers)


@pytest.mark.parametrize(("sent", "expected_s"), [(b"2S", 2.0), (b"1500m", 1.5), (b"1H", 3600.0), (b"99999999n", 0.1)])
def test_a_timeout_has_one_of_six_units(sent: bytes, expected_s: float) -> None:
    assert head_of([*PSEUDO, (b"grpc-timeout", sent)]).timeout_s == pytest.approx(expected_s)


@pytest.mark.parametrize("sent", [b"", b"S", b"2", b"-1S", b"1.5S", b"123456789S", b"1s"])
def test_a_timeout_that_is_no_time_is_refused(sent: bytes) -> None:
    with pytest.raises(ValueError, match="grpc-timeout is no time"):
        _ = head_of([*PSEUDO, (b"grpc-timeout", sent)]).timeout_s


def test_a_message_is_percent_encoded_and_bounded() -> None:
    assert escaped(b"plain text") == b"plain text"
    assert escaped("50 % ü\n".encode()) == b"50 %25 %C3%BC%0A"
    assert len(escaped(b"x" * (MAX_TOLD_BYTES + 1))) == MAX_TOLD_BYTES


def test_any_decoder_of_the_standard_reads_what_is_encoded() -> None:
    encoder, decoder = PlainEncoder(KNOWN), hpack.Decoder()
    for headers in ([*KNOWN], [(b"x-a", b"x" * 126), (b"x-b", b"x" * 127), (b"x-c", b"x" * 20_000)]):
        assert [*decoder.decode(encoder.encode(headers), raw=True)] == headers
