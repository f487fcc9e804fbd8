"""A port without predictions, whose connections are held to the same bounds all the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.inference.errors import SluiceError


class NoPredictions:
    """A data plane that recognises nothing. Implements `gateway.messages.DataPlane`."""

    max_body_bytes = 0

    def __init__(self) -> None:
        self.loop_turns = LoopTurns()

    def recognise(self, target: bytes) -> None:
        """Nothing is a prediction."""

    async def answer(
        self, route: NoReturn, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> NoReturn:
        """Nothing comes here."""
        raise NotImplementedError

    def refuse(self, route: NoReturn, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """Nothing comes here."""
        raise NotImplementedError
