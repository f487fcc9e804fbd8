"""Watches over the doors of a process: whether each accepts connections, and whether descriptors are left for them."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from contextlib import suppress

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.telemetry.logs import log

LOOK_S = 0.25
MIN_FREE = 24
"""Descriptors that are kept to replace workers, and for files and Redis. With fewer, no connection is accepted."""

OPEN_FILES = "/proc/self/fd"


class DoorWatch:
    """Looks every `LOOK_S` after the doors of a process. An async context manager: entered, it looks.

    A door that accepts nothing is opened anew, as often as it takes; `reopened` is called each time with its name.
    `faults` says what is wrong now, for people. While descriptors run out, the budget refuses every connection.
    """

    def __init__(self, budget: ConnectionBudget, reopened: Callable[[str], None]) -> None:
        self._budget = budget
        self._reopened = reopened
        self._acceptors: list[Acceptor] = []
        self._failing: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DoorWatch:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watching is not None
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching

    def add(self, acceptor: Acceptor) -> None:
        """Watch over one more door."""
        self._acceptors.append(acceptor)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a sentence for each fault."""
        faults = [f"the door {each.door} is shut: {fault}" for each in self._acceptors if (fault := each.fault)]
        if self._budget.exhausted:
            faults.append("there are no open files left for connections")
        return tuple(faults)

    async def _watch(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # the next look may succeed, and the doors must not stay shut
                log.error("the doors could not be looked at", exc_info=error)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look once: count descriptors, and open anew each door that accepts nothing."""
        self._count_descriptors()
        shut = [(acceptor, fault) for acceptor in self._acceptors if (fault := acceptor.fault) is not None]
        for acceptor, _ in shut:
            acceptor.give_up()
        for acceptor, fault in shut:
            try:
                acceptor.reopen()
            except OSError as error:
                if acceptor.door not in self._failing:
                    self._failing.add(acceptor.door)
                    log.error("a door cannot be opened anew", door=acceptor.door, because=str(error))
                continue
            self._failing.discard(acceptor.door)
            self._reopened(acceptor.door)
            log.error("a door was shut and is open again", door=acceptor.door, because=fault)

    def _count_descriptors(self) -> None:
        exhausted = free_descriptors() < MIN_FREE
        if exhausted != self._budget.exhausted:
            self._budget.exhausted = exhausted
            if exhausted:
                log.error("there are no open files left for connections; new ones are refused")
            else:
                log.info("there are open files for connections again")


def open_descriptors() -> int:
    """How many files the process has open."""
    try:
        # Newer kernels say how many as the size of the folder, for which nothing has to be opened.
        return os.stat(OPEN_FILES).st_size or len(os.listdir(OPEN_FILES))
    except OSError:
        return 2**31  # none is left to look with


def free_descriptors() -> int:
    """How many more files the process may open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft - open_descriptors()
