"""The auditor between a real batcher and workers that act as a model would, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import numpy as np
import pytest

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.batching.job import JobResult
from sluice.batching.report import BatchReport
from sluice.gateway.serving.audit.auditor import Auditor, RowAudit
from sluice.gateway.serving.audit.examine import AuditFinding
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.types import Array, Arrays, BatchResult
from tests.batching.fakes import Engine, Run, linear
from tests.batching.virtual_time import pass_time, quiet, virtual_loop
from tests.gateway.serving.audit import acting
from tests.gateway.serving.audit.acting import Model

RUN_S = linear(0.002, 0.0005)


class Acting(Engine):
    """Workers that compute a function, and call `on_vacancy` after each answer, as real ones do."""

    def __init__(self, model: Model, run_s: Callable[[int], float] = RUN_S, workers: int = 1) -> None:
        super().__init__(run_s, workers, depth=2)
        self.model = model
        self.on_vacancy: Callable[[], None] = lambda: None
        self.came_s: list[float] = []

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        self.came_s.append(virtual_loop().time())
        try:
            return await super().run(parts, outputs, limit_s)
        finally:
            self.on_vacancy()

    def _end(self, run: Run) -> None:
        if not run.end.done():
            outputs = self.model(np.concatenate([part[0] for part in run.parts]))
            run.finish_with(*outputs, compute_s=virtual_loop().time() - run.begun_s)


class Stage:
    """A batcher, an auditor and workers. `looks` has the audits that were reported, `found` the verdict."""

    def __init__(self, acting_model: Acting, share: float, seed: int, max_rows: int) -> None:
        self.workers = acting_model
        self.looks: list[RowAudit] = []
        self.reports: list[BatchReport] = []
        self.found: AuditFinding | None = None
        self.found_after_batches = 0
        clock = virtual_loop().time
        self.auditor = Auditor(
            acting_model,
            acting.Y,
            share,
            on_audit=self.looks.append,
            on_mixed=self.mixed,
            random=Random(seed),
        )
        self.batcher = Batcher(self.auditor, BatchLimits(max_rows), on_batch=self.ended, clock=clock)
        self.auditor.on_vacancy, self.workers.on_vacancy = self.batcher.wake, self.auditor.room

    def ended(self, report: BatchReport) -> None:
        self.reports.append(report)
        self.auditor.ran(report.compute_s)

    async def mixed(self, finding: AuditFinding) -> None:
        self.found = finding
        self.found_after_batches = len(self.reports)
        self.batcher.unbatch()

    def ask(self, x: Array) -> asyncio.Future[JobResult]:
        return self.batcher.submit((x,), len(x), "key", ("y",))

    async def call(self, random: Random, calls: int, make: Callable[[Random], Array], pause_s: float) -> int:
        """Send a call after each answer. Returns how many answers differ from those to the rows alone."""
        wrong = 0
        for _ in range(calls):
            x = make(random)
            (y,) = (await self.ask(x)).outputs
            wrong += not np.allclose(y, self.workers.model(x)[0], rtol=1e-3)
            await pass_time(pause_s * random.random())
        return wrong

    async def calls(self, callers: int, calls: int, make: Callable[[Random], Array], pause_s: float = 0.001) -> int:
        return sum(await asyncio.gather(*[self.call(Random(n), calls, make, pause_s) for n in range(callers)]))

    @property
    def outcomes(self) -> set[str]:
        return {look.finding.outcome for look in self.looks}


@asynccontextmanager
async def stage(
    model: Model,
    run_s: Callable[[int], float] = RUN_S,
    *,
    share: float = 0.01,
    workers: int = 1,
    seed: int = 0,
    max_rows: int = 64,
) -> AsyncIterator[Stage]:
    acts = Stage(Acting(model, run_s, workers), share, seed, max_rows)
    async with acts.auditor, acts.batcher:
        yield acts
    assert not virtual_loop().complaints
    assert asyncio.all_tasks() == {asyncio.current_task()}


def one_row(random: Random) -> Array:
    return np.array([[random.gauss(0, 1), random.gauss(0, 1)]], np.float32)


def a_few_rows(random: Random) -> Array:
    return np.concatenate([one_row(random) for _ in range(random.choice([1, 1, 2, 5]))])


def now_and_then_a_large_one(random: Random) -> Array:
    return one_row(random) + np.float32(100 if random.random() < 0.02 else 0)


async def a_first_batch(acts: Stage) -> None:
    """The first look measures what a look costs."""
    await acts.ask(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("model", "make"),
    [
        (acting.centred, one_row),
        (acting.centred, a_few_rows),
        (acting.first_only, one_row),
        (acting.shared_out, a_few_rows),
        (acting.late, now_and_then_a_large_one),
    ],
    ids=["centred", "centred, some rows", "place", "size", "late"],
)
async def test_a_model_that_mixes_rows_is_found_out_within_a_bounded_number_of_batches(
    model: Model, make: Callable[[Random], Array], seed: int
) -> None:
    bound = 6000 if model is acting.late else 1500
    async with stage(model, seed=seed) as acts:
        calling = asyncio.ensure_future(acts.calls(16, 12_000, make))
        while acts.found is None:
            await pass_time(0.5)
            assert len(acts.reports) < bound, acts.looks[-5:]
        assert acts.found.outcome is AuditOutcome.MIXED
        assert acts.found.output == "y"
        assert acts.auditor.kept is None
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        looks = len(acts.looks)
        assert await acts.calls(16, 20, make) == 0
        assert len(acts.looks) == looks


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.5], ids=["saturated", "busy", "quiet"])
async def test_looks_take_no_more_than_their_share_and_fail_nobody(pause_s: float) -> None:
    async with stage(acting.doubled) as acts:
        assert await acts.calls(16, 1500 if pause_s < 0.1 else 300, a_few_rows, pause_s) == 0
        auditor = acts.auditor
        assert len(acts.looks) >= 5
        assert acts.outcomes == {AuditOutcome.ALIKE}
        assert auditor.spent_s <= 0.01 * auditor.engine_s + RUN_S(1)
        assert sum(look.compute_s for look in acts.looks) == pytest.approx(auditor.spent_s)


async def test_a_look_waits_until_the_workers_have_nothing_to_do() -> None:
    async with stage(acting.doubled, share=1.0) as acts:
        for _ in range(4):
            acts.ask(np.ones((2, 2), np.float32))
            await pass_time(0.05)
        assert acts.looks
        for run in acts.workers.runs:
            assert len(run.parts[0][0]) == 2 or run.begun_s > max(
                other.begun_s + 0.01 for other in acts.workers.runs if other.begun_s < run.begun_s
            )


async def test_the_next_free_place_is_the_looks() -> None:
    async with stage(acting.doubled, linear(1.0, 0.0), share=1.0, max_rows=2) as acts:
        acts.workers.depth = 1
        await a_first_batch(acts)
        requests = [acts.ask(np.full((2, 2), 1 + number, np.float32)) for number in range(4)]
        await pass_time(1.5)
        runs = acts.workers.runs
        assert acts.auditor.kept is not None
        assert [run.rows for run in runs] == [2, 2, 2]
        acts.workers.hire()
        assert (acts.workers.vacancy().idle, acts.auditor.vacancy().idle) == (1, 0)
        acts.batcher.wake()  # comes before the look, and finds no room
        acts.auditor.room()
        await quiet()
        assert [run.rows for run in runs] == [2, 2, 2, 1]
        await asyncio.gather(*requests)


@pytest.mark.parametrize(("run_s", "clients"), [(0.005, 64), (0.05, 200)])
async def test_load_hides_nothing_and_no_place_stays_empty(run_s: float, clients: int) -> None:
    async with stage(acting.doubled, linear(run_s, 0.0), share=1.0) as acts:
        await acts.calls(clients, round(3 / run_s), one_row, 0.0)
        assert len(acts.looks) >= 5
        workers = acts.workers
        alone = [place for place, run in enumerate(workers.runs) if run.rows == 1 and place + 1 < len(workers.runs)]
        assert len(alone) >= 5
        for place in alone:
            # The next batch was there before the look was over.
            assert workers.came_s[place + 1] < workers.runs[place].begun_s + run_s


async def test_rows_that_had_no_company_are_not_kept() -> None:
    async with stage(acting.centred, share=1.0) as acts:
        for _ in range(300):
            await acts.ask(np.ones((1, 2), np.float32))
            assert acts.auditor.kept is None
        await pass_time(5)
        assert not acts.looks


async def test_rows_of_one_request_are_looked_at_too() -> None:
    """The cache has rows: one of them would be answered alone as it was beside the other."""
    async with stage(acting.centred) as acts:
        rng = np.random.default_rng(0)
        while acts.found is None:
            await acts.ask(rng.standard_normal((2, 2)).astype(np.float32))
            assert len(acts.reports) < 1500


async def test_what_is_kept_is_let_go() -> None:
    async with stage(acting.doubled, share=1.0) as acts:
        await a_first_batch(acts)
        kept = acts.ask(np.ones((3, 2), np.float32))
        await kept
        await quiet()
        assert acts.auditor.kept is not None
        assert (acts.auditor.kept.rows, acts.auditor.kept.whole) == (3, True)
        await pass_time(0.1)
        assert acts.auditor.kept is None
        assert len(acts.looks) == 1


async def test_a_model_of_moods_stays_batched() -> None:
    random = np.random.default_rng(1)

    def noisy(x: Array) -> tuple[Array, ...]:
        return (x + random.standard_normal(x.shape).astype(np.float32),)

    async with stage(noisy, share=0.1) as acts:
        await acts.calls(16, 800, one_row)
        assert acts.outcomes == {AuditOutcome.NOISE}
        assert acts.found is None
        assert acts.auditor.spent_s <= 0.1 * acts.auditor.engine_s + 6 * RUN_S(16)


async def test_a_worker_that_dies_meanwhile_costs_the_look_alone() -> None:
    async with stage(acting.centred, share=1.0) as acts:
        await a_first_batch(acts)
        await acts.ask(np.array([[1, 2], [3, 4]], np.float32))
        while not acts.workers.out:
            await pass_time(0.001)
        assert len(acts.workers.out[0].parts[0][0]) == 1
        acts.workers.out[0].die()
        await quiet()
        assert [look.finding.outcome for look in acts.looks] == [AuditOutcome.UNFINISHED]
        before_s = virtual_loop().time()
        while acts.found is None:
            await acts.ask(np.array([[1, 2], [3, 4]], np.float32))
            await pass_time(0.1)
        assert virtual_loop().time() - before_s > 9


async def test_nobody_waits_for_a_worker_that_is_not_there() -> None:
    async with stage(acting.doubled, share=1.0) as acts:
        await a_first_batch(acts)
        await acts.ask(np.ones((2, 2), np.float32))
        acts.workers.workers.clear()
        await pass_time(5)
        assert not acts.looks
        acts.workers.hire()
        acts.auditor.room()
        await pass_time(5)
        assert acts.outcomes == {AuditOutcome.ALIKE}


async def test_it_may_be_left_at_any_moment() -> None:
    for moments in range(0, 60, 3):
        async with stage(acting.centred, share=1.0) as acts:
            await a_first_batch(acts)
            request = acts.ask(np.array([[1, 2], [3, 4]], np.float32))
            await pass_time(0.001 * moments)
        assert request.done()
        assert acts.auditor.kept is None
        await pass_time(0.1)  # the workers end what they run
        assert not virtual_loop().armed_timers()


async def test_a_batch_that_fails_is_not_kept() -> None:
    async with stage(acting.doubled, share=1.0) as acts:
        await a_first_batch(acts)
        request = acts.ask(np.ones((2, 2), np.float32))
        await quiet()
        acts.workers.out[0].die()
        await quiet()
        assert acts.auditor.kept is None
        await request
        await pass_time(1)
        assert acts.outcomes == {AuditOutcome.ALIKE}  # of the same rows, run again
