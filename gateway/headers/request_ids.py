"""Request ids: taken from `X-Request-Id` or made here. Every answer and every log line has one."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable

from sluice.gateway.messages import Header

REQUEST_ID = b"x-request-id"
_ACCEPTABLE = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestIds:
    """Gives each request its id: that of the caller, or a new one, which is unique across processes."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode("ascii")
        self._count = itertools.count(1)

    def of(self, headers: Iterable[Header]) -> bytes:
        """The caller's id if it is 1 to 128 visible ASCII characters, else a new one."""
        for name, value in headers:
            if name == REQUEST_ID and _ACCEPTABLE.fullmatch(value):
                return value
        return b"%b-%x" % (self._prefix, next(self._count))
