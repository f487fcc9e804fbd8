"""Who leaves when, and who gets what."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sluice.batching.batcher import BatchLimits
from sluice.batching.policy import Reason
from sluice.batching.report import BatchOutcome
from sluice.inference.errors import ModelNotReady, QueueFull, RequestTooLarge
from tests.batching.fakes import Door, Puppet, answer, column, numbers
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def test_a_lone_request_leaves_at_once() -> None:
    async with Door(puppet := Puppet()) as door:
        request = door.ask(1)
        await quiet()
        puppet.runs[0].finish()
        await quiet()
        assert answer(request) == [1]
        assert door.reports[0].reason is Reason.IDLE
        assert door.reports[0].queue_s == 0


async def test_requests_of_the_same_turn_travel_together() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1)
        door.ask(2, 3)
        door.ask(4)
        await quiet()
        assert puppet.out[0].values == [[1], [2, 3], [4]]
        puppet.runs[0].finish()


async def test_what_gathers_while_the_worker_is_busy_is_the_next_batch() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1)
        await quiet()
        for value in (2, 3, 4):
            door.ask(value)
            await pass_time(0.01)
        assert len(puppet.runs) == 1
        puppet.runs[0].finish()
        await quiet()
        assert puppet.out[0].values == [[2], [3], [4]]
        puppet.runs[1].finish()


async def test_a_spare_place_is_taken_by_as_many_rows_as_are_ahead() -> None:
    async with Door(puppet := Puppet(depth=2)) as door:
        door.ask(1, 2, 3)
        await quiet()
        door.ask(4, 5)
        await quiet()
        assert len(puppet.runs) == 1
        door.ask(6)
        await quiet()
        assert puppet.runs[1].values == [[4, 5], [6]]
        for run in puppet.out:
            run.finish()
        await quiet()
        assert [report.reason for report in door.reports] == [Reason.IDLE, Reason.AHEAD]


async def test_a_full_batch_takes_a_spare_place_without_another_event() -> None:
    async with Door(puppet := Puppet(depth=2), max_rows=2) as door:
        for value in range(5):
            door.ask(value)
        await quiet()
        assert [run.values for run in puppet.out] == [[[0], [1]], [[2], [3]]]
        for _ in range(3):
            puppet.out[0].finish()
            await quiet()
        assert [report.reason for report in door.reports] == [Reason.FULL, Reason.FULL, Reason.IDLE]


async def test_every_idle_worker_gets_a_batch() -> None:
    async with Door(puppet := Puppet(workers=3), max_rows=2) as door:
        for value in range(5):
            door.ask(value)
        await quiet()
        assert [run.values for run in puppet.out] == [[[0], [1]], [[2], [3]], [[4]]]
        for run in puppet.out:
            run.finish()


async def test_a_wake_fills_a_new_worker() -> None:
    async with Door(puppet := Puppet(workers=0)) as door:
        request = door.ask(1)
        await pass_time(5)
        assert not puppet.runs
        puppet.hire()
        door.batcher.wake()
        await quiet()
        puppet.runs[0].finish()
        await quiet()
        assert answer(request) == [1]


async def test_each_request_gets_its_own_rows_of_every_output() -> None:
    async with Door(puppet := Puppet()) as door:
        submit, key = door.batcher.submit, "both inputs"
        first = submit((column(1, 2), column(10, 20)), 2, key, ("sum", "label"))
        empty = submit((column(), column()), 0, key, ("sum", "label"))
        last = submit((column(3), column(30)), 1, key, ("sum", "label"))
        await quiet()
        (run,) = puppet.out
        assert run.outputs == ("sum", "label")
        run.finish_with(column(11, 22, 33), np.array([b"a", b"b", b"c"], dtype=object), compute_s=0.5)
        await quiet()
        for request, sums, labels in (first, [11, 22], [b"a", b"b"]), (empty, [], []), (last, [33], [b"c"]):
            result = request.result()
            assert numbers(result.outputs[0]) == sums
            assert result.outputs[1].tolist() == labels
            assert result.batch_rows == 3


async def test_a_batch_of_one_gets_its_outputs_whole() -> None:
    async with Door(puppet := Puppet(), max_rows=1) as door:
        request, other = door.ask(1), door.ask(2)
        await quiet()
        scalar = np.array(7.0)
        puppet.runs[0].finish_with(scalar)
        await quiet()
        puppet.runs[1].finish()
        await quiet()
        assert request.result().outputs[0] is scalar
        assert answer(other) == [2]


async def test_different_keys_travel_apart_oldest_first() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()
        for value, key in (1, "b"), (2, "a"), (3, "b"):
            door.ask(value, key=key)
            await quiet()
        door.ask(4, key="a", outputs=("z",))
        for _ in range(4):
            puppet.out[0].finish()
            await quiet()
        assert [run.values for run in puppet.runs] == [[[0]], [[1], [3]], [[2]], [[4]]]
        assert puppet.runs[3].outputs == ("z",)


async def test_a_request_cancelled_in_the_queue_never_travels() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()
        before, gone, after = door.ask(1), door.ask(2), door.ask(3)
        gone.cancel()
        puppet.runs[0].finish()
        await quiet()
        assert puppet.out[0].values == [[1], [3]]
        puppet.out[0].finish()
        await quiet()
        assert (answer(before), answer(after)) == ([1], [3])
        assert gone.cancelled()


async def test_a_request_cancelled_while_it_runs_leaves_its_neighbours_alone() -> None:
    async with Door(puppet := Puppet()) as door:
        before, gone, after = door.ask(1), door.ask(2, 2), door.ask(3)
        await quiet()
        gone.cancel()
        puppet.runs[0].finish()
        await quiet()
        assert (answer(before), answer(after)) == ([1], [3])
        assert door.reports[0].outcome is BatchOutcome.ANSWERED
        assert not virtual_loop().complaints


async def test_the_answer_of_a_lone_request_that_has_gone_is_dropped() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1).cancel()
        gone = door.ask(2)
        await quiet()
        gone.cancel()
        assert puppet.out[0].values == [[2]]
        puppet.out[0].finish()
        await quiet()
        assert [report.outcome for report in door.reports] == [BatchOutcome.ANSWERED]


async def test_cancelling_a_task_that_waits_for_an_answer_cancels_its_request() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()

        async def client() -> None:
            await door.ask(1)

        task = asyncio.create_task(client())
        await quiet()
        task.cancel()
        await quiet()
        puppet.runs[0].finish()
        await quiet()
        assert len(puppet.runs) == 1


async def test_a_full_queue_refuses_at_once() -> None:
    async with Door(puppet := Puppet(), max_rows=4, max_queue_rows=4) as door:
        door.ask(0)
        await quiet()
        door.ask(1, 2)
        with pytest.raises(QueueFull, match="2 rows wait and 3 more would pass 4") as refusal:
            door.ask(3, 4, 5)
        assert refusal.value.retry_after_s == 1
        accepted = door.ask(3, 4)
        puppet.runs[0].finish()
        await quiet()
        puppet.runs[1].finish()
        await quiet()
        assert answer(accepted) == [3, 4]


async def test_a_full_queue_counts_bytes() -> None:
    async with Door(puppet := Puppet(), max_queue_bytes=100) as door:
        door.ask(0)
        await quiet()
        text = np.array([[b"x" * 60]], dtype=object)
        door.batcher.submit((text,), 1, "text", ("y",))
        assert door.batcher.statistics().queue.size_bytes == 68
        with pytest.raises(QueueFull, match="68 bytes wait and 36 more would pass 100"):
            door.ask(*range(9))
        with pytest.raises(RequestTooLarge, match="the inputs have 104 bytes; the queue takes at most 100"):
            door.ask(*range(26))
        puppet.runs[0].finish()
        await quiet()
        puppet.runs[1].finish_with(text)


async def test_retry_after_follows_the_measured_rate() -> None:
    async with Door(puppet := Puppet(), max_rows=10, max_queue_rows=1000) as door:
        for _ in range(3):
            door.ask(*range(10))
            await quiet()
            await pass_time(0.1)
            puppet.out[0].finish(compute_s=0.1)
            await quiet()
            await pass_time(1000)  # an idle spell says nothing of the model
        for _ in range(101):
            door.ask(*range(10))
            await quiet()
        with pytest.raises(QueueFull) as refusal:
            door.ask(1)
        assert refusal.value.retry_after_s == pytest.approx(10, rel=1e-3)
        assert door.batcher.statistics().rows_per_s == pytest.approx(100, rel=1e-3)
        while puppet.out:
            puppet.out[0].finish()
            await quiet()


async def test_the_parts_of_an_answers_time_add_up() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()
        request = door.ask(1)
        await pass_time(2)
        puppet.runs[0].finish()
        await quiet()
        await pass_time(1)
        puppet.runs[1].finish(compute_s=0.75)
        await quiet()
        result = request.result()
        assert result.compute_s == 0.75
        assert result.queue_s == pytest.approx(2, abs=1e-4)
        assert result.batch_s == pytest.approx(1, abs=1e-4)
        report = door.reports[1]
        assert (report.rows, report.jobs, report.outcome) == (1, 1, BatchOutcome.ANSWERED)
        assert report.queue_s == pytest.approx(2, abs=1e-4)
        assert report.wall_s == pytest.approx(1, abs=1e-4)
        assert report.compute_s == 0.75
        assert report.traced == ()


async def test_statistics_say_what_waits_and_what_is_out() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1, 2)
        await quiet()
        door.ask(3, key="other")
        door.ask()
        now = door.batcher.statistics()
        assert (now.queue.jobs, now.queue.rows, now.queue.size_bytes, now.queue.keys) == (2, 2, 4, 2)
        assert (now.running_batches, now.running_rows, now.again_batches) == (1, 2, 0)
        for _ in range(3):
            puppet.out[0].finish()
            await quiet()
        now = door.batcher.statistics()
        assert (now.queue.jobs, now.queue.rows, now.queue.size_bytes, now.queue.keys) == (0, 0, 0, 0)
        assert (now.running_batches, now.running_rows) == (0, 0)


async def test_a_failing_report_stops_nothing() -> None:
    async with Door(puppet := Puppet()) as door:

        def refuse(report: object) -> None:
            raise LookupError("no such metric")

        door.batcher._on_batch = refuse
        for value in (1, 2):
            request = door.ask(value)
            await quiet()
            puppet.out[0].finish()
            await quiet()
            assert answer(request) == [value]


async def test_nothing_is_accepted_before_entering() -> None:
    with pytest.raises(ModelNotReady):
        Door(Puppet()).ask(1)


@pytest.mark.parametrize("name", ["max_rows", "max_queue_rows", "max_queue_bytes"])
def test_a_limit_below_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        BatchLimits(**{name: 0})
