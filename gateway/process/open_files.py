"""How many connections the limit on open files allows."""

from __future__ import annotations

import resource

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.limits import connection_cap
from sluice.gateway.doors.door_watch import open_descriptors
from sluice.gateway.telemetry.logs import log

RESERVED_DESCRIPTORS = 256
"""Open files that are kept for everything but connections: sockets and memory of workers, logs, Redis, models that are
loaded later. Where the limit is low, half of it is kept, or what is open already and `REPLACING_DESCRIPTORS`."""

REPLACING_DESCRIPTORS = 64
"""Open files that a gateway needs beyond those it has open at rest: to replace workers, and to read files."""


def bound_connections(budget: ConnectionBudget, wanted: int) -> None:
    """Raise the limit on open files as far as it goes, and allow up to `wanted` connections within it.

    To be called once the workers run, since what is open by then is not for connections. Logs a warning where fewer
    connections are allowed than are wanted.
    """
    limit = _descriptor_limit()
    reserved = max(open_descriptors() + REPLACING_DESCRIPTORS, min(RESERVED_DESCRIPTORS, limit // 2))
    budget.set_limit(connection_cap(wanted, limit, reserved))
    if budget.limit < wanted:
        log.warning("open files are limited, and so are connections", max_connections=budget.limit)


def _descriptor_limit() -> int:
    """How many files the process may have open, once it has asked for as many as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
