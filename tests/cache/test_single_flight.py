"""Who waits for whom, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np

from sluice.cache.entry import entry_of
from sluice.cache.report import Owner
from sluice.cache.single_flight import SingleFlight, landed
from tests.batching.virtual_time import VirtualTimeLoop, quiet
from tests.cache.queries import query_of

KEY = b"k" * 16
QUERY = query_of(np.ones((1, 1)), deadline_s=10.0, priority=5)
ENTRY = entry_of((np.ones((1, 1)),), Owner("m", 1), 0.0)


def virtually(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


def test_followers_hear_of_a_landing() -> None:
    async def main() -> None:
        flights = SingleFlight()
        flight = flights.begin(KEY, QUERY)
        followed = flights.to_follow(KEY, QUERY)
        assert followed is flight
        waiting = [asyncio.ensure_future(landed([flight], 1.0)) for _ in range(3)]
        await quiet()
        flights.land(KEY, flight, ENTRY)
        assert await asyncio.gather(*waiting) == [True] * 3
        assert flight.entry is ENTRY
        assert not len(flights)

    virtually(main())


def test_followers_hear_of_a_flight_that_was_given_up() -> None:
    async def main() -> None:
        flights = SingleFlight()
        flight = flights.begin(KEY, QUERY)
        waiting = asyncio.ensure_future(landed([flight], 1.0))
        await quiet()
        flights.end(KEY, flight)
        assert await waiting
        assert flight.entry is None
        assert flights.to_follow(KEY, QUERY) is None

    virtually(main())


def test_nobody_waits_longer_than_it_may() -> None:
    async def main() -> None:
        flight = SingleFlight().begin(KEY, QUERY)
        assert not await landed([flight], 0.5)
        assert not await landed([flight], -1.0)

    virtually(main())


def test_a_follower_that_gives_up_disturbs_no_other() -> None:
    async def main() -> None:
        flights = SingleFlight()
        flight = flights.begin(KEY, QUERY)
        one, other = (asyncio.ensure_future(landed([flight], 1.0)) for _ in range(2))
        await quiet()
        one.cancel()
        await quiet()
        flights.land(KEY, flight, ENTRY)
        assert await other

    virtually(main())


def test_what_is_over_is_not_waited_for() -> None:
    async def main() -> None:
        flights = SingleFlight()
        flight = flights.begin(KEY, QUERY)
        flights.land(KEY, flight, ENTRY)
        assert await landed([flight], 0.0)
        flights.end(KEY, flight)
        assert flight.entry is ENTRY

    virtually(main())


def test_only_what_is_as_urgent_is_followed() -> None:
    flights = SingleFlight()
    flights.begin(KEY, QUERY)
    x = np.ones((1, 1))
    assert flights.to_follow(KEY, query_of(x, deadline_s=10.0, priority=5))
    assert flights.to_follow(KEY, query_of(x, deadline_s=11.0, priority=6))
    assert not flights.to_follow(KEY, query_of(x, deadline_s=9.0, priority=5))
    assert not flights.to_follow(KEY, query_of(x, deadline_s=10.0, priority=4))


def test_a_flight_that_was_overtaken_ends_for_its_own_followers_alone() -> None:
    async def main() -> None:
        flights = SingleFlight()
        slow = flights.begin(KEY, QUERY)
        waiting = asyncio.ensure_future(landed([slow], 1.0))
        await quiet()
        quick = flights.begin(KEY, query_of(np.ones((1, 1)), deadline_s=1.0))
        flights.end(KEY, slow)
        assert await waiting
        assert flights.to_follow(KEY, QUERY) is quick

    virtually(main())


def test_followers_that_give_up_leave_nothing_behind() -> None:
    """Callers who come and go beside a slow row must not add up."""

    async def main() -> None:
        flights = SingleFlight()
        flight = flights.begin(KEY, QUERY)
        for _ in range(10):
            waiting = asyncio.ensure_future(landed([flight], 1.0))
            await quiet()
            waiting.cancel()
            await quiet()
            assert not await landed([flight], 0.0)
        assert not flight.waiters
        waiting = asyncio.ensure_future(landed([flight], 1.0))
        await quiet()
        flights.land(KEY, flight, ENTRY)
        assert await waiting
        assert flight.waiters is None

    virtually(main())


def test_one_waits_for_many_flights_until_all_are_over() -> None:
    async def main() -> None:
        flights = SingleFlight()
        many = [flights.begin(b"%16d" % number, QUERY) for number in range(5)]
        flights.end(b"%16d" % 0, many[0])
        waiting = asyncio.ensure_future(landed(many, 1.0))
        await quiet()
        for number in range(1, 5):
            assert not waiting.done()
            flights.land(b"%16d" % number, many[number], ENTRY)
            await quiet()
        assert await waiting

    virtually(main())
