"""What nobody can beat: a fluid server that works at full speed and foresees its backlog. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.machine import Machine


def ideal_rows(requests: Sequence[Request], machine: Machine, objective_s: float) -> int:
    """The rows that such a server would answer within the objective.

    It works off rows one by one at the rate of full batches, without noise beyond its mean, pauses or the way there,
    and takes a request in exactly if what it has taken in and the request itself are done within the objective. With
    equal deadlines and requests of one row no admission serves more. It is min(offered, capacity) for steady traffic;
    of a burst it is what the objective lets a queue absorb.
    """
    row_s = 1.0 / machine.rows_per_s()
    clock = _Progress(machine)
    taken = 0
    done_s = 0.0
    for request in requests:
        done = clock.after(max(done_s, request.arrived_s), request.rows * row_s)
        if done <= request.arrived_s + objective_s:
            done_s = done
            taken += request.rows
    return taken


class _Progress:
    """Work takes longer in slowdowns."""

    def __init__(self, machine: Machine) -> None:
        self._noise = machine.noise

    def after(self, start_s: float, work_s: float) -> float:
        """When the work is done, which is short beside a slowdown: the factor at its start counts for all of it."""
        return start_s + work_s * self._noise.slowed(start_s)
