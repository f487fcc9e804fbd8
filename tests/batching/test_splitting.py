"""Requests that are larger than a batch."""

from __future__ import annotations

import pytest

from sluice.inference.errors import DeadlineExceeded, ModelFailed, QueueFull, RequestTooLarge, WorkerKilled
from tests.batching.fakes import Door, Puppet, answer, column
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def test_a_large_request_is_answered_in_order() -> None:
    async with Door(puppet := Puppet(workers=2), max_rows=4) as door:
        request = door.ask(*range(10))
        await quiet()
        puppet.out[1].finish(compute_s=0.25)
        await quiet()
        await pass_time(1)
        assert [run.values for run in puppet.out] == [[[0, 1, 2, 3]], [[8, 9]]]
        puppet.out[1].finish(compute_s=0.25)
        puppet.out[0].finish(compute_s=0.5)
        assert not request.done()
        await quiet()
        assert answer(request) == list(range(10))
        result = request.result()
        assert (result.compute_s, result.batch_rows) == (1.0, 4)
        assert result.queue_s == pytest.approx(0, abs=1e-4)
        assert result.batch_s == pytest.approx(1, abs=1e-4)


async def test_the_last_piece_travels_with_others() -> None:
    async with Door(puppet := Puppet(workers=2), max_rows=4) as door:
        large, small = door.ask(*range(5)), door.ask(7)
        await quiet()
        assert [run.values for run in puppet.out] == [[[0, 1, 2, 3]], [[4], [7]]]
        for run in puppet.out:
            run.finish()
        await quiet()
        assert (answer(large), answer(small)) == ([0, 1, 2, 3, 4], [7])


async def test_a_large_request_is_admitted_whole_or_not_at_all() -> None:
    async with Door(puppet := Puppet(), max_rows=2, max_queue_rows=6) as door:
        door.ask(0)
        await quiet()
        door.ask(1)
        with pytest.raises(QueueFull, match="1 rows wait and 6 more would pass 6"):
            door.ask(*range(6))
        assert door.batcher.statistics().queue.rows == 1
        with pytest.raises(RequestTooLarge, match="the request has 7 rows; the queue takes at most 6"):
            door.ask(*range(7))
        for _ in range(2):
            puppet.out[0].finish()
            await quiet()


async def test_one_failed_piece_fails_the_request_and_takes_out_the_others() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        large, other = door.ask(*range(8)), door.ask(9)
        await quiet()
        error = ModelFailed("row 1 is out of range")
        puppet.out[0].fail(error)
        await quiet()
        assert large.exception() is error
        assert puppet.out[0].values == [[9]]
        puppet.out[0].finish()
        await quiet()
        assert answer(other) == [9]


async def test_a_piece_that_fails_late_ends_the_request_once() -> None:
    async with Door(puppet := Puppet(workers=3), max_rows=2) as door:
        request = door.ask(*range(6))
        await quiet()
        first, second, third = puppet.out
        second.fail()
        await quiet()
        first.finish()
        third.fail()
        await quiet()
        assert isinstance(request.exception(), ModelFailed)
        assert not virtual_loop().complaints


async def test_a_piece_that_kills_its_workers_fails_the_request() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        request = door.ask(1, 2, 3)
        await quiet()
        puppet.out[0].die()
        await quiet()
        puppet.out[0].finish()
        await quiet()
        puppet.out[0].die()
        await quiet()
        assert isinstance(request.exception(), WorkerKilled)
        assert not puppet.out


async def test_cancelling_a_large_request_takes_out_all_its_pieces() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        large, other = door.ask(*range(8)), door.ask(9)
        await quiet()
        large.cancel()
        puppet.out[0].finish()
        await quiet()
        assert puppet.out[0].values == [[9]]
        puppet.out[0].finish()
        await quiet()
        assert answer(other) == [9]


async def test_a_large_request_past_its_deadline_ends_once() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        request = door.ask(*range(6), within_s=1)
        await quiet()
        await pass_time(2)
        assert isinstance(request.exception(), DeadlineExceeded)
        assert door.batcher.statistics().queue.rows == 0
        puppet.out[0].finish()
        await quiet()
        assert not virtual_loop().complaints


async def test_outputs_that_cannot_be_joined_say_what_would_be_right() -> None:
    async with Door(puppet := Puppet(workers=2), max_rows=2) as door:
        for wrong in (column(1), column(1, 2).reshape(2, 1, 1)):
            request = door.ask(1, 2, 3)
            await quiet()
            puppet.out[0].finish_with(wrong)
            await quiet()
            puppet.out[0].finish()
            await quiet()
            with pytest.raises(ModelFailed, match=r"cannot be answered in pieces: .*; send at most 2 rows"):
                request.result()
