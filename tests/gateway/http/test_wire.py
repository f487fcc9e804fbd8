from __future__ import annotations

import pytest

from sluice.gateway.http import wire
from sluice.gateway.messages import Header, HttpResponse


def test_a_head() -> None:
    start = wire.Heads().start(200, [(b"date", b"today")])
    response = HttpResponse(200, b"hello", ((b"content-type", b"text/plain"),))
    assert wire.head(start, response, wire.CLOSE) == (
        b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("status", [204, 304])
def test_a_head_without_a_body_to_follow(status: int) -> None:
    head = wire.head(wire.Heads().start(status, []), HttpResponse(status, b""), b"")
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length" not in head
    assert not wire.has_body("GET", status)


def test_a_status_without_a_name() -> None:
    assert wire.Heads().start(299, []).startswith(b"HTTP/1.1 299 \r\n")


def test_heads_follow_the_server_s_headers() -> None:
    heads = wire.Heads()
    first: list[Header] = [(b"date", b"1")]
    assert heads.start(200, first) is heads.start(200, first)
    assert b"date: 2\r\n" in heads.start(200, [(b"date", b"2")])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\x7f"])
def test_no_header_can_begin_another(value: bytes) -> None:
    for header in ((b"x", value), (value, b"x")):
        with pytest.raises(ValueError, match="control character"):
            wire.header_lines((header,))


def test_a_tab_is_no_line_end() -> None:
    assert wire.header_lines(((b"x", b"a\tb"),)) == b"x: a\tb\r\n"
