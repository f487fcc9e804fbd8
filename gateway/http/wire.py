"""Answers as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus

from sluice.gateway.messages import Header, HttpResponse

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"

JOINED_BYTES = 16 * 1024
"""Up to here a body is joined to its head, which costs less than a second write; a larger one is not copied."""

_CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"
BODILESS = frozenset({204, 304})
"""Statuses whose answers end with their head."""


class Heads:
    """The beginnings of answers: the status line, the server's own headers, and the name `content-length`.

    Each is joined once per status and per change of the server's headers (uvicorn makes a new list every second).
    Holds at most one entry per status code.
    """

    __slots__ = ("_defaults", "_starts")

    def __init__(self) -> None:
        self._defaults: list[Header] | None = None
        self._starts: dict[int, bytes] = {}

    def start(self, status: int, defaults: list[Header]) -> bytes:
        """The bytes up to the value of `content-length`."""
        if defaults is not self._defaults:
            self._starts.clear()
            self._defaults = defaults
        start = self._starts.get(status)
        if start is None:
            start = self._starts[status] = _start(status, defaults)
        return start


def head(start: bytes, response: HttpResponse, connection: bytes) -> bytes:
    """A head from its `start` and the answer's own headers; `connection` is `CLOSE` or empty.

    Raises `ValueError` as `header_lines` does.
    """
    lines = header_lines(response.headers)
    if response.request_id is not None:
        lines = b"%bx-request-id: %b\r\n" % (lines, response.request_id)
    if response.cached is not None:
        lines = b"%bx-cache: %b\r\n" % (lines, response.cached)
    if response.timing is not None:
        lines = b"%bserver-timing: %b\r\n" % (lines, response.timing)
    if response.trace is not None:
        lines = b"%btraceresponse: %b\r\n" % (lines, response.trace)
    if response.status in BODILESS:
        return b"%b%b%b\r\n" % (start, lines, connection)
    return b"%b%d\r\n%b%b\r\n" % (start, len(response.body), lines, connection)


@lru_cache(maxsize=256)
def header_lines(headers: tuple[Header, ...]) -> bytes:
    """Headers as they stand on the wire.

    Raises `ValueError` for a name or value with a control character in it: with a line end there, a client that chose
    the value could write an answer of its own.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if len(lines) - len(lines.translate(None, _CONTROLS)) != 2 * len(headers):
        names = b", ".join([name for name, _ in headers])
        raise ValueError(f"a header has a control character in it; it is one of {names!r}")
    return lines


def has_body(method: str, status: int) -> bool:
    """Whether an answer's body stands on the wire."""
    return method != "HEAD" and status not in BODILESS


def plain(status: int, text: str, *headers: Header) -> HttpResponse:
    """An answer in plain text, for a request whose dialect is not known, or whose dialect has no such answer."""
    return HttpResponse(status, text.encode(), ((b"content-type", b"text/plain; charset=utf-8"), *headers))


def _start(status: int, defaults: Sequence[Header]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")]
    lines += [b"%b: %b\r\n" % header for header in defaults]
    if status not in BODILESS:
        lines.append(b"content-length: ")
    return b"".join(lines)
