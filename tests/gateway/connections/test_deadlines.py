from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

from sluice.gateway.connections.deadlines import DeadlineSweep
from sluice.gateway.connections.held_bytes import HeldBytes


class FakeLoop:
    """A clock that moves by hand, and the one timer that a sweep may have."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timer: Callable[[], None] | None = None

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> object:
        assert self.timer is None
        due_s = self.now_s + delay_s

        def fire() -> None:
            self.now_s = max(self.now_s, due_s)
            callback(*arguments)

        self.timer = fire
        return object()

    def tick(self) -> None:
        fire, self.timer = self.timer, None
        assert fire is not None
        fire()


class FakeConnection:
    def __init__(self, deadline: float = math.inf, unsent_bytes: int = 0) -> None:
        self.deadline = deadline
        self.unsent_bytes = unsent_bytes
        self.told: list[str] = []
        self.frees: Callable[[], None] = lambda: None

    def recount(self) -> None:
        self.told.append("recount")

    def make_room(self, now: float) -> None:
        self.told.append("make_room")
        self.frees()

    def overdue(self, now: float) -> None:
        self.told.append(f"overdue at {now}")
        self.deadline = math.inf


def watched(held: HeldBytes, *connections: FakeConnection) -> tuple[FakeLoop, DeadlineSweep, set[FakeConnection]]:
    loop, sweep, open_connections = FakeLoop(), DeadlineSweep([4.0, 10.0], held), set(connections)
    sweep.watch(cast(asyncio.AbstractEventLoop, loop), open_connections)
    return loop, sweep, open_connections


def test_what_is_past_its_deadline_is_called_once_within_a_quarter_of_the_shortest_timeout() -> None:
    soon, late = FakeConnection(deadline=1.5), FakeConnection(deadline=math.inf)
    loop, sweep, _ = watched(HeldBytes(10), soon, late)
    assert sweep.period_s == 1.0
    for _ in range(3):
        loop.tick()
    assert (soon.told, late.told) == (["overdue at 2.0"], [])


def test_the_period_has_bounds() -> None:
    assert DeadlineSweep([0.001], HeldBytes(1)).period_s == 0.005
    assert DeadlineSweep([100.0], HeldBytes(1)).period_s == 1.0


def test_the_timer_ends_with_the_last_connection_and_begins_with_the_next() -> None:
    connection = FakeConnection()
    loop, sweep, open_connections = watched(HeldBytes(10), connection)
    open_connections.clear()
    loop.tick()
    assert loop.timer is None
    sweep.watch(cast(asyncio.AbstractEventLoop, loop), open_connections)
    assert loop.timer is not None


def test_room_is_made_by_those_with_most_unsent_until_there_is_room() -> None:
    held = HeldBytes(10)
    held.now_bytes = 12
    small, large, idle = FakeConnection(unsent_bytes=1), FakeConnection(unsent_bytes=11), FakeConnection()

    def free() -> None:
        held.now_bytes = 1

    large.frees = free
    loop, _, _ = watched(held, small, large, idle)
    loop.tick()
    assert (large.told, small.told, idle.told) == (["recount", "make_room"], ["recount"], [])
