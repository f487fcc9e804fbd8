"""One policy, one scenario."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.loop import VirtualLoop, virtual_loop
from benchmarks.simulation.policy import Bench, Policy, PolicyFactory
from benchmarks.simulation.rivals import ADAPTIVE, FIXED
from benchmarks.simulation.scenarios import Scenario
from benchmarks.simulation.score import Score, score
from benchmarks.simulation.server import Ran
from benchmarks.simulation.sluice import Sluice

SLUICE = "Sluice"
POLICIES: Mapping[str, PolicyFactory] = MappingProxyType({SLUICE: Sluice, **ADAPTIVE, **FIXED})

GRACE_S = 30.0
"""How long after the last arrival a policy may take to end what it accepted."""


class Feed:
    """Hands requests to a policy at their times, one at a time, and knows no more of the future than the next one."""

    def __init__(self, loop: VirtualLoop, policy: Policy, requests: Sequence[Request]) -> None:
        self._loop = loop
        self._policy = policy
        self._coming: Iterator[Request] = iter(requests)
        self.over: asyncio.Future[None] = loop.create_future()
        self._arm()

    def _arm(self) -> None:
        request = next(self._coming, None)
        if request is None:
            self.over.set_result(None)
        else:
            self._loop.call_at(request.arrived_s, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        self._policy.arrive(request)
        self._arm()


def simulate(
    factory: PolicyFactory, scenario: Scenario, requests: Sequence[Request], seed: int
) -> tuple[Ledger, list[Ran]]:
    """Run to the end, and give back the books and the batches.

    Raises `RuntimeError` if a request ended twice or a callback failed, and `TimeoutError` if a request never ended.
    """
    loop = virtual_loop()
    ledger = Ledger(requests)
    bench = Bench(loop, scenario.machine, scenario.objective_s, ledger, seed)

    async def run() -> list[Ran]:
        async with factory(bench) as policy:
            await Feed(loop, policy, requests).over
            async with asyncio.timeout(GRACE_S):
                await ledger.all_ended(loop)
        return policy.server.ran

    gc.disable()  # nothing here waits for the collector, and its pauses take a third of the time
    try:
        ran = loop.run_until_complete(run())
    finally:
        gc.enable()
    if loop.complaints:
        raise RuntimeError(f"a callback failed: {loop.complaints[0]}") from loop.complaints[0].get("exception")
    return ledger, ran


def run(policy: str, scenario: Scenario, seed: int) -> Score:
    """The score of one policy in one scenario."""
    ledger, ran = simulate(POLICIES[policy], scenario, scenario.requests(seed), seed)
    return score(policy, scenario, ledger, ran)
