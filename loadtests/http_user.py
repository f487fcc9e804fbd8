"""A user who speaks one dialect over HTTP, and looks at every answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from locust import FastHttpUser

from loadtests import zipf
from loadtests.answers import Answer, Judged
from loadtests.dialects.base import Call, Dialect
from loadtests.options import Options
from loadtests.pace import Pace
from loadtests.scenarios import SCENARIOS, Blunder, Prediction, Scenario, refused

if TYPE_CHECKING:
    from locust.contrib.fasthttp import ResponseContextManager
    from locust.env import Environment

NO_STORE = {"Cache-Control": "no-store"}

_ordinals = count()


class Play:
    """A scenario as a task of Locust, which reads its tags in `locust_tag_set`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.locust_tag_set = set(scenario.tags)
        self.__name__ = scenario.name

    def __call__(self, user: PredictingUser) -> None:
        """Make one call."""
        if isinstance(self.scenario, Prediction):
            user.predict(self.scenario)
        else:
            user.blunder(self.scenario)


class PredictingUser(FastHttpUser):
    """One caller with one connection, and a chance of its own that `--seed` decides.

    A subclass names its `dialect`. Options are read when a user is born, since workers get theirs from the master.
    """

    abstract = True
    dialect: ClassVar[Dialect]
    tasks: list[Any] = [Play(scenario) for scenario in SCENARIOS]  # noqa: RUF012 - Locust declares it so

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        options = Options.of(environment.parsed_options)
        self.insecure = options.insecure
        self.ssl_context_factory = None if options.insecure else partial(_trusting, options.ca)
        self.default_headers = dict(options.headers)
        super().__init__(environment)
        self._options = options
        self._random = Random(f"{options.seed}/{getattr(environment.runner, 'worker_index', 0)}/{next(_ordinals)}")
        self._popularity = zipf.shared(options.distinct_rows, options.zipf_exponent)
        self._period_s = 1 / options.rate_per_user if options.rate_per_user else 0.0
        # What the tags have left, each as often as it weighs: Locust picks among them with equal chances.
        self.tasks = [play for play in type(self).tasks for _ in range(_weight(play.scenario, options))]

    def on_start(self) -> None:
        """Users who are born together do not call together for ever."""
        time.sleep(self._random.random() * self._period_s)
        self._pace = Pace(self._period_s, time.perf_counter())

    def wait_time(self) -> float:
        """Seconds until the next call."""
        return self._pace.wait_s(time.perf_counter())

    def predict(self, scenario: Prediction) -> None:
        """Ask for rows, the popular ones more often."""
        model = scenario.model
        rows = [model.row(self._popularity.draw(self._random)) for _ in range(scenario.rows)]
        call = self.dialect.predict(model, rows)
        headers = NO_STORE if scenario.no_store or self._options.no_store else {}
        with self._post(call, scenario, headers) as response:
            _settle(response, _answer(response).of_prediction(self.dialect, model, scenario.rows))

    def blunder(self, scenario: Blunder) -> None:
        """Make one of the mistakes that the dialect knows."""
        mistake = self._random.choice(self.dialect.mistakes(scenario.model))
        with self._post(mistake.call, scenario, {}) as response:
            _settle(response, _answer(response).of_mistake(self.dialect, mistake))

    def _post(self, call: Call, scenario: Scenario, headers: Mapping[str, str]) -> ResponseContextManager:
        return self.client.post(
            call.path,
            data=call.body.decode(),
            headers={**call.headers, **headers},
            name=f"{self.dialect.name} {scenario.name}",
            catch_response=True,
            allow_redirects=False,
        )


def user_classes(dialects: list[Dialect]) -> dict[str, type[PredictingUser]]:
    """A class of users for each dialect, by its name, as in `V2User`."""
    names = {f"{dialect.name.title().replace('-', '')}User": dialect for dialect in dialects}
    return {
        name: type(name, (PredictingUser,), {"dialect": dialect, "abstract": False}) for name, dialect in names.items()
    }


@lru_cache(maxsize=1)
def _trusting(ca: str | None) -> ssl.SSLContext:
    """One for all users: reading the system's certificates takes milliseconds."""
    return ssl.create_default_context(cafile=ca)


def _weight(scenario: Scenario, options: Options) -> int:
    return scenario.weight * options.weights.get(scenario.model.name, 0)


def _answer(response: ResponseContextManager) -> Answer:
    status, headers = response.status_code, response.headers
    if not status or headers is None:
        return Answer(0, repr(response.request_meta["exception"]).encode(), None)
    retry_after = headers.get("Retry-After")
    return Answer(status, response.content or b"", None if retry_after is None else str(retry_after))


def _settle(response: ResponseContextManager, judged: Judged) -> None:
    """Tell Locust, which counts a refusal under a name of its own."""
    if judged.refused:
        response.request_meta["name"] = refused(response.request_meta["name"])
    if judged.fault is None:
        response.success()
    else:
        response.failure(judged.fault)
