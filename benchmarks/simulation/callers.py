"""Callers of an overloaded gateway: an open loop over connections that carry one request at a time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from benchmarks.simulation.loop import VirtualLoop

NEXT_S = 1e-9
"""No two requests are due within so short a time."""


class Phase(msgspec.Struct, frozen=True):
    """So many requests a second, evenly spaced, for so long. Of the first `warmup_s` nothing is counted."""

    per_s: float
    duration_s: float
    warmup_s: float = 0.0


class Heard(msgspec.Struct, frozen=True):
    """What callers heard of what they sent in one phase. `told_s` is the longest time until a refusal."""

    sent_per_s: float
    ok_per_s: float
    good_per_s: float
    refused_per_s: float
    told_s: float


class Callers:
    """Sends a request whenever one is due and a connection is free; `send` is told of it when the gateway may read it.

    A request that is due while every connection waits for an answer is not sent: its caller turns to somebody else.
    Callers do not wait for the gateway's thread: what is due and who is free is worked out from the times at which
    things happened, not from when this code comes to it.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        send: Callable[[Callers, float], None],
        connections: int,
        phases: Sequence[Phase],
    ) -> None:
        self.over: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._send = send
        self._free_s = deque([0.0] * connections)
        self._phases = list(phases)
        self._ended: list[tuple[float, float, bool]] = []
        self._out = 0
        self._next_s = 0.0
        self._armed = False
        self._arm()

    def heard(self, sent_s: float, now_s: float, *, ok: bool) -> None:
        """A request has its answer, or its refusal."""
        self._ended.append((sent_s, now_s, ok))
        self._free_s.append(now_s)
        self._out -= 1
        if not self._armed:
            self._arm()

    def last(self, objective_s: float) -> Heard:
        """What was heard in the last phase."""
        phase = self._phases[-1]
        end_s = sum([each.duration_s for each in self._phases])
        span_s = phase.duration_s - phase.warmup_s
        counted = [each for each in self._ended if end_s - span_s <= each[0] < end_s]
        took_s = np.array([ended_s - sent_s for sent_s, ended_s, _ in counted])
        ok = np.array([each[2] for each in counted], dtype=bool)
        return Heard(
            len(counted) / span_s,
            float(ok.sum()) / span_s,
            float((ok & (took_s <= objective_s)).sum()) / span_s,
            float((~ok).sum()) / span_s,
            float(took_s[~ok].max(initial=0.0)),
        )

    def _arm(self) -> None:
        """Wait for the next request that is due while a connection is free."""
        self._armed = False
        due_s = self._due_s(max(self._next_s, self._free_s[0])) if self._free_s else None
        if due_s is not None:
            self._armed = True
            self._loop.call_at(due_s, self._come, due_s)
        elif not self._out and not self.over.done():
            self.over.set_result(None)

    def _come(self, due_s: float | None) -> None:
        """The gateway looks at its sockets: it finds all that was sent before it began to look."""
        while due_s is not None and due_s <= self._loop.turned_s:
            self._free_s.popleft()
            self._out += 1
            self._next_s = due_s + NEXT_S
            self._send(self, due_s)
            due_s = self._due_s(max(self._next_s, self._free_s[0])) if self._free_s else None
        self._arm()

    def _due_s(self, from_s: float) -> float | None:
        """The first request that is due at `from_s` or later; `None` when all phases are over."""
        begin_s = 0.0
        for phase in self._phases:
            end_s = begin_s + phase.duration_s
            if from_s < end_s and phase.per_s:
                due_s = begin_s + math.ceil(max(0.0, from_s - begin_s) * phase.per_s) / phase.per_s
                if due_s < end_s:
                    return due_s
            begin_s = end_s
        return None
