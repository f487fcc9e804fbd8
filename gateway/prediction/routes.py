"""Where request targets lead: to a prediction call of a dialect, or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from sluice.gateway.dialects.base import Call, Dialect
from sluice.inference.errors import SluiceError

REMEMBERED_TARGETS, REMEMBERED_BYTES = 1024, 256
"""How many recent targets are remembered with their routes, and how long a target may be for that: callers use few
different ones."""


class Route(msgspec.Struct, frozen=True):
    """The prediction call that a target names. `fault` says what is wrong with the target, if anything is."""

    dialect: Dialect
    call: Call
    fault: SluiceError | None = None


class Routes:
    """Finds the route of a target. The first dialect that recognises a path has it."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = tuple(dialects)
        self._remembered = lru_cache(maxsize=REMEMBERED_TARGETS)(self._recognise)

    def recognise(self, target: bytes) -> Route | None:
        """The route of a prediction call; `None` for every other target."""
        return self._remembered(target) if len(target) <= REMEMBERED_BYTES else self._recognise(target)

    def _recognise(self, target: bytes) -> Route | None:
        path = target.partition(b"?")[0].decode("ascii", "replace")
        if "%" in path:
            path = unquote(path)
        for dialect in self._dialects:
            try:
                call = dialect.recognise(path)
            except SluiceError as fault:
                return Route(dialect, Call(""), fault.with_traceback(None))
            if call is not None:
                return Route(dialect, call)
        return None
