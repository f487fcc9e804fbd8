"""When a request may have come, by the turns of the event loop."""

from __future__ import annotations

from sluice.gateway.connections.loop_turns import BLOCKED_S, LoopTurns


def test_a_loop_that_waited_has_read_a_request_at_once() -> None:
    loop_turns = LoopTurns()
    loop_turns.worked(10.0, 10.020)
    assert loop_turns.came_s(10.020 + 2 * BLOCKED_S) == 10.020 + 2 * BLOCKED_S


def test_what_came_during_a_long_turn_counts_from_its_middle() -> None:
    loop_turns = LoopTurns()
    loop_turns.worked(10.0, 10.001)
    loop_turns.worked(10.0, 10.040)
    assert loop_turns.came_s(10.040) == 10.020


def test_a_call_that_ended_just_now_says_nothing_of_when_it_began() -> None:
    """A long call alone: the loop turned many times while the model ran."""
    loop_turns = LoopTurns()
    loop_turns.worked(10.0, 10.0)
    loop_turns.worked(10.5, 10.5)
    assert loop_turns.came_s(10.501) >= 10.5


def test_nothing_comes_after_it_was_read() -> None:
    loop_turns = LoopTurns()
    loop_turns.worked(10.003, 10.003)
    assert loop_turns.came_s(10.002) <= 10.002
