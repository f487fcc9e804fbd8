"""Who is blamed when workers die, played through in virtual time: innocents never for accidents, poisons always."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.batching.docket import KEEP_S, SPACING_S
from sluice.batching.recovery import ENOUGH, WEIGHTS
from sluice.inference.errors import DeadlineExceeded, WorkerKilled
from sluice.inference.types import Cause
from tests.batching.fakes import Door, Puppet, Run, answer
from tests.batching.virtual_time import VirtualTimeLoop, pass_time, quiet

ACCIDENTS = [Cause.KILLED, Cause.FROZEN]
FAULTS = [Cause.CRASHED, Cause.TOO_LONG, Cause.GARBLED]
BOUNDS = {**dict.fromkeys(FAULTS, 3), Cause.OUT_OF_MEMORY: 4, **dict.fromkeys(ACCIDENTS, 8)}
"""What one request may cost, by the way in which it kills."""

Future = asyncio.Future[object]


class Play:
    """Requests, of which some are poisons, and workers that die of them and by accident. Ends every run it is given."""

    def __init__(self, poisons: dict[float, Cause], accidents: float = 0.0, seed: int = 0) -> None:
        self.poisons = poisons
        self.accidents = accidents
        self.random = Random(seed)
        self.deaths = dict.fromkeys(poisons, 0)
        self.alone: dict[float, int] = {}
        """What the deaths weigh that each request has met alone."""

    def end(self, run: Run) -> None:
        values = [value for part in run.values for value in part]
        guilty = [value for value in values if value in self.poisons]
        if guilty:
            self.die(run, values, self.poisons[guilty[0]])
            for value in set(guilty):
                self.deaths[value] += 1
        elif self.random.random() < self.accidents:
            self.die(run, values, self.random.choice(ACCIDENTS))
        else:
            run.finish()

    def die(self, run: Run, values: Sequence[float], cause: Cause) -> None:
        if len(run.parts) == 1:
            self.alone[values[0]] = self.alone.get(values[0], 0) + WEIGHTS[cause]
        run.die(cause)

    async def to_the_end(self, door: Door, puppet: Puppet) -> None:
        for _ in range(10_000):
            if not puppet.out:
                await pass_time(SPACING_S)
                if not puppet.out:
                    break
            self.end(self.random.choice(puppet.out))
            await quiet()
        now = door.batcher.statistics()
        assert (now.queue.rows, now.running_batches, now.again_batches) == (0, 0, 0)


@pytest.mark.parametrize("cause", BOUNDS)
@pytest.mark.parametrize("neighbours", [0, 1, 2, 63])
async def test_a_poison_fails_alone_within_its_bound(cause: Cause, neighbours: int) -> None:
    guilty = neighbours // 2
    async with Door(puppet := Puppet()) as door:
        requests = {value: door.ask(value) for value in range(neighbours + 1)}
        play = Play({guilty: cause})
        await quiet()
        await play.to_the_end(door, puppet)
        with pytest.raises(WorkerKilled, match=f"died in {play.deaths[guilty]} runs"):
            requests.pop(guilty).result()
        assert all(answer(request) == [value] for value, request in requests.items())
        assert 1 < play.deaths[guilty] <= BOUNDS[cause]


@pytest.mark.parametrize("causes", [(one, other) for one in BOUNDS for other in BOUNDS])
async def test_two_poisons_do_not_hide_behind_each_other(causes: tuple[Cause, Cause]) -> None:
    async with Door(puppet := Puppet(workers=2)) as door:
        requests = [door.ask(value) for value in range(16)]
        play = Play({3: causes[0], 11: causes[1]})
        await quiet()
        await play.to_the_end(door, puppet)
        for value, cause in zip((3, 11), causes, strict=True):
            assert isinstance(requests[value].exception(), WorkerKilled)
            assert play.deaths[value] <= BOUNDS[cause] + 1, "the other may have been the cause of one in company"
        assert all(answer(requests[each]) == [each] for each in range(16) if each not in (3, 11))


@pytest.mark.parametrize("accidents", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(5))
async def test_innocents_are_answered_whatever_befalls_the_workers(accidents: float, seed: int) -> None:
    async with Door(puppet := Puppet(workers=3, depth=2)) as door:
        play = Play({}, accidents, seed)
        requests: dict[float, Future] = {}
        for value in range(300):
            requests[value] = door.ask(value)  # type: ignore[assignment]
            if value % 5 == 0:
                await quiet()
                if puppet.out:
                    play.end(play.random.choice(puppet.out))
        await play.to_the_end(door, puppet)
        blamed = [value for value, request in requests.items() if request.exception() is not None]
        assert all(play.alone[value] >= ENOUGH for value in blamed)
        assert len(blamed) <= (1 if accidents > 0.1 else 0)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.integers(0, 29), st.sampled_from(list(BOUNDS)), max_size=4),
    st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    st.integers(0, 1000),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_one_end_for_each_and_blame_only_for_enough(
    poisons: dict[float, Cause], accidents: float, seed: int, workers: int, depth: int
) -> None:
    async def play_it() -> None:
        async with Door(puppet := Puppet(workers, depth), max_rows=8) as door:
            play = Play(poisons, accidents, seed)
            requests = [door.ask(value) for value in range(30)]
            await quiet()
            await play.to_the_end(door, puppet)
            for value, request in enumerate(requests):
                if value in poisons or request.exception() is not None:
                    assert isinstance(request.exception(), WorkerKilled)
                    assert play.alone[value] >= ENOUGH
                else:
                    assert answer(request) == [value]
            assert max(play.deaths.values(), default=0) <= max(BOUNDS.values())

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play_it())


async def test_64_copies_of_a_poison_cost_no_more_than_one() -> None:
    async with Door(puppet := Puppet()) as door:
        copies = [door.ask(7) for _ in range(64)]
        play = Play({7: Cause.CRASHED})
        await quiet()
        await play.to_the_end(door, puppet)
        assert all(isinstance(copy.exception(), WorkerKilled) for copy in copies)
        assert play.deaths[7] == 3
        again = door.ask(7)
        await quiet()
        assert "the same input as" in str(again.exception())
        assert play.deaths[7] == 3
        await pass_time(KEEP_S + 1)
        door.ask(7)
        await quiet()
        assert len(puppet.out) == 1, "after a while it is tried afresh"


async def test_neighbours_are_served_between_two_deaths_of_a_suspect() -> None:
    async with Door(puppet := Puppet(), max_rows=1) as door:
        suspect = door.ask(0)
        await quiet()
        puppet.out[0].die(Cause.CRASHED)
        await quiet()
        assert puppet.out[0].values == [[0]], "nothing else waits"
        suspect.cancel()
        puppet.out[0].finish()
        await quiet()
        poison = door.ask(1)
        neighbours = [door.ask(value) for value in range(2, 22)]
        await quiet()
        puppet.out[0].die(Cause.CRASHED)
        for _ in range(9):
            await pass_time(SPACING_S / 10)
            assert puppet.out[0].values != [[1]]
            puppet.out[0].finish()
        await pass_time(2 * SPACING_S / 10)
        puppet.out[0].finish()
        await quiet()
        assert puppet.out[0].values == [[1]], "others wait, but it has its turn"
        puppet.out[0].finish()
        await quiet()
        assert answer(poison) == [1]
        while puppet.out:
            puppet.out[0].finish()
            await quiet()
        assert [answer(each) for each in neighbours] == [[value] for value in range(2, 22)]


async def test_a_poison_in_ever_new_forms_does_not_take_its_neighbours_along() -> None:
    async with Door(puppet := Puppet(), max_rows=64) as door:
        deaths, neighbours, poisons = 0, [], []
        door.ask(-1)
        for number in range(0, 240, 4):
            poisons.append(door.ask(1000 + number, 1001 + number))
            neighbours += [door.ask(number + each) for each in range(4)]
            await quiet()
            run = puppet.out[0]
            guilty = any(len(part) == 2 for part in run.values)
            deaths += guilty
            await pass_time(0.05)
            run.die(Cause.CRASHED) if guilty else run.finish()
            await quiet()
        assert deaths <= 15, "it would be each of 60 runs"
        assert sum(each.done() for each in neighbours) > 0.7 * len(neighbours)
        while puppet.out:
            run = puppet.out[0]
            run.die(Cause.CRASHED) if any(len(part) == 2 for part in run.values) else run.finish()
            await quiet()
        assert all(answer(each) == [value] for value, each in enumerate(neighbours))
        assert all(isinstance(each.exception(), WorkerKilled) for each in poisons)


async def test_one_that_passes_clears_its_shape() -> None:
    async with Door(puppet := Puppet()) as door:
        poison, like, other = door.ask(1, 2), door.ask(3, 4), door.ask(5)
        await quiet()
        puppet.out[0].die(Cause.CRASHED)
        await quiet()
        assert puppet.out[0].values == [[1, 2]]
        puppet.out[0].die(Cause.CRASHED)
        await quiet()
        assert puppet.out[0].values == [[5]], "what is like the suspect waits for the others"
        puppet.out[0].finish()
        await quiet()
        assert puppet.out[0].values == [[3, 4]]
        puppet.out[0].finish()
        await quiet()
        fresh, beside = door.ask(6, 7), door.ask(8)
        puppet.out[0].finish()
        await quiet()
        assert puppet.out[0].values == [[6, 7], [8]], "the shape is cleared"
        puppet.out[0].finish()
        await quiet()
        assert [answer(each) for each in (poison, like, other, fresh, beside)] == [[1, 2], [3, 4], [5], [6, 7], [8]]


async def test_a_suspect_has_until_its_deadline() -> None:
    async with Door(puppet := Puppet()) as door:
        suspect = door.ask(1, within_s=2)
        await quiet()
        puppet.out[0].die(Cause.CRASHED)
        puppet.workers.clear()
        await pass_time(1.9)
        assert not suspect.done()
        await pass_time(0.2)
        assert isinstance(suspect.exception(), DeadlineExceeded)
        puppet.hire()
        door.batcher.wake()
        await quiet()
        assert not puppet.out


async def test_a_suspect_runs_again_once_requests_run_alone_for_good() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        requests = [door.ask(1), door.ask(2, 3, 4)]
        await quiet()
        for _ in range(2):
            puppet.out[0].die(Cause.CRASHED)
            await quiet()
        puppet.workers.clear()
        door.batcher.unbatch()
        puppet.hire()
        door.batcher.wake()
        await quiet()
        while puppet.out:
            puppet.out[0].finish()
            await quiet()
        assert [answer(request) for request in requests] == [[1], [2, 3, 4]]


async def test_leaving_ends_suspects_that_wait() -> None:
    async with Door(puppet := Puppet(), drain_timeout_s=0.1) as door:
        suspect = door.ask(1)
        await quiet()
        puppet.out[0].die(Cause.CRASHED)
        puppet.workers.clear()
        await quiet()
    assert "stopped before it could answer" in str(suspect.exception())
