"""What users do: which model they ask, for how many rows, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.models import DIGITS, LINEAR, Model

REFUSED = ", refused"
ON_PURPOSE = "wrong on purpose"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A right call about `rows` rows. `weight` is how often it comes up beside the others; `tags` pick it by name."""

    model: Model
    rows: int
    weight: int
    tags: frozenset[str]
    no_store: bool = False

    @property
    def name(self) -> str:
        """As it stands in Locust's tables, after the dialect."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.model.name}, {rows}{', no-store' if self.no_store else ''}"


@dataclass(frozen=True, slots=True)
class Blunder:
    """One of the dialect's wrong calls about a model, taken in turn. The right answer is the right refusal."""

    model: Model
    weight: int
    tags: frozenset[str]

    @property
    def name(self) -> str:
        """As it stands in Locust's tables, after the dialect."""
        return f"{self.model.name}, {ON_PURPOSE}"


Scenario = Prediction | Blunder


def refused(name: str) -> str:
    """Under which name a call is counted that was refused for want of room or time."""
    return name + REFUSED


def _both_ways(model: Model, rows: int, weight: int, *tags: str) -> list[Scenario]:
    """Most calls may be answered from the cache; some keep it out."""
    tagged = {model.name, "one" if rows == 1 else "many", *tags}
    return [
        Prediction(model, rows, 4 * weight, frozenset({*tagged, "cached"})),
        Prediction(model, rows, weight, frozenset({*tagged, "uncached"}), no_store=True),
    ]


SCENARIOS: tuple[Scenario, ...] = (
    *_both_ways(DIGITS, 1, 3, "image"),
    *_both_ways(DIGITS, 8, 1, "image"),
    *_both_ways(LINEAR, 1, 3, "small"),
    *_both_ways(LINEAR, 32, 1, "small"),
    Blunder(DIGITS, 1, frozenset({"digits", "errors"})),
    Blunder(LINEAR, 1, frozenset({"linear", "errors"})),
)
"""Tags: the model's name, `small` or `image`, `one` or `many` rows, `cached`, `uncached`, `errors`."""
