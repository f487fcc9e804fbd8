"""Whether predictions can be sent to this gateway, as HTTP, gRPC and the pages all say it."""

from __future__ import annotations

from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.drain import Drain


class Readiness:
    """Whether the gateway is ready. That depends on the models, the doors, and whether it is shutting down."""

    def __init__(self, catalogue: Catalogue, drain: Drain, doors: DoorWatch) -> None:
        self._catalogue = catalogue
        self._drain = drain
        self._doors = doors

    @property
    def ready(self) -> bool:
        """Whether new calls should be sent here: all versions can answer, and `open` is true."""
        return self._catalogue.ready and self.open

    @property
    def open(self) -> bool:
        """Whether all doors are open and the gateway is not shutting down."""
        return not self._drain.begun and not self._doors.faults

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""
        return self._drain.begun

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the doors, in plain words."""
        return self._doors.faults

    async def noticed(self) -> None:
        """Return once the gateway begins to shut down."""
        await self._drain.noticed()
