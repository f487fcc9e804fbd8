"""Whether predictions can be sent here, as every door is to say it."""

from __future__ import annotations

from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.drain import Drain


class Readiness:
    """What readiness depends on: the models, the doors, and that the gateway is not on its way out."""

    def __init__(self, catalogue: Catalogue, drain: Drain, doors: DoorWatch) -> None:
        self._catalogue = catalogue
        self._drain = drain
        self._doors = doors

    @property
    def ready(self) -> bool:
        """Whether new calls had better come here."""
        return self._catalogue.ready and self.open

    @property
    def open(self) -> bool:
        """The same, whatever the models say."""
        return not self._drain.begun and not self._doors.faults

    @property
    def draining(self) -> bool:
        """Whether the gateway is on its way out."""
        return self._drain.begun

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the doors, for people."""
        return self._doors.faults

    async def noticed(self) -> None:
        """Return once the gateway is on its way out."""
        await self._drain.noticed()
