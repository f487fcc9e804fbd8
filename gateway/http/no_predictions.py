"""A data plane for a port without predictions, whose connections have the same bounds as all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn, assert_never

from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.inference.errors import SluiceError


class NoPredictions:
    """A data plane that recognises nothing. Implements `gateway.messages.DataPlane`."""

    max_body_bytes = 0

    def __init__(self) -> None:
        self.loop_turns = LoopTurns()

    def recognise(self, target: bytes) -> None:
        """Return `None`: no target is that of a prediction."""

    async def answer(
        self, route: NoReturn, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> NoReturn:
        """Not called, since there are no routes."""
        assert_never(route)

    def refuse(self, route: NoReturn, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """Not called, since there are no routes."""
        assert_never(route)
