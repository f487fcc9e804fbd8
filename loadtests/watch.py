"""Follows a run from its beginning to the verdict: the side of the gate that knows Locust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locust import LoadTestShape, log
from locust.runners import WorkerRunner

from loadtests.capacity import Ramp
from loadtests.figures import Entry, Figures
from loadtests.gate import Verdict
from loadtests.options import Options

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.event import Events

FAILED = 1

MAX_USERS_PER_S = 100.0
"""Locust warns of more. It also asks for the next number of users only when these have come or gone."""


class Watch:
    """Cuts a run into steps, and judges it at the end: in the process that has all the figures, never in a worker.

    With the web interface, each run is judged when it stops, and the last one decides the exit code.
    """

    def __init__(self) -> None:
        self._began = False
        self._ramp = Ramp()
        self._seen_s = 0.0

    def listen(self, events: Events) -> None:
        """Follow the runs of this process."""
        events.test_start.add_listener(self._start)
        events.test_stop.add_listener(self._stop)
        events.quitting.add_listener(self._quit)

    def see(self, environment: Environment, now_s: float, users: int | None) -> None:
        """What the shape wants at this moment; `None`: nothing more. The last step ends with the last figures."""
        self._seen_s = now_s
        if users is not None:
            self._ramp.see(now_s, users, figures_of(environment))

    def _start(self, environment: Environment, **_: Any) -> None:
        self._began = True
        self._ramp = Ramp()

    def _stop(self, environment: Environment, **_: Any) -> None:
        # Without the web interface the process ends now, and workers' last figures are still on their way.
        if environment.web_ui is not None:
            self._judge(environment)

    def _quit(self, environment: Environment, **_: Any) -> None:
        if self._began and not isinstance(environment.runner, WorkerRunner):
            # Said in either case: of itself, Locust would let a single failure decide.
            environment.process_exit_code = 0 if self._judge(environment).passed else FAILED

    def _judge(self, environment: Environment) -> Verdict:
        options = options_of(environment)
        figures = figures_of(environment)
        crashes = sum(each["count"] for each in environment.runner.exceptions.values()) if environment.runner else 0
        verdict = Verdict(tuple(options.objective.checks(figures)), crashes + int(log.unhandled_greenlet_exception))
        self._ramp.see(self._seen_s, None, figures)
        if options.load.shape == "step":
            print(f"\n{self._ramp.text(options.objective)}")
        print(f"\n{verdict.text()}\n", flush=True)
        return verdict


class Schedule(LoadTestShape):
    """The shape that `--shape` names. Locust asks it about once a second."""

    abstract = True
    watch: Watch

    def tick(self) -> tuple[int, float] | None:
        """Users, and how quickly they come and go; `None` ends the run."""
        assert self.runner is not None
        elapsed_s: float = LoadTestShape.get_run_time(self)
        users = options_of(self.runner.environment).load.users_at(elapsed_s)
        self.watch.see(self.runner.environment, elapsed_s, users)
        return None if users is None else (users, min(float(users), MAX_USERS_PER_S))


def options_of(environment: Environment) -> Options:
    """The options in force. Raises `ArgumentTypeError` or `ValueError` for what the web form let through."""
    assert environment.parsed_options is not None
    return Options.of(environment.parsed_options)


def figures_of(environment: Environment) -> Figures:
    """What the rows of Locust's tables add up to so far. In the master they lag behind by up to three seconds."""
    return Figures.of(
        Entry(row.name, row.num_requests, row.num_failures, row.response_times)
        for row in environment.stats.entries.values()
    )
