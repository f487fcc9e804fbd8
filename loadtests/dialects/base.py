"""What a dialect is to a client: how to ask, how to tell a right answer, and how to ask wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loadtests.models import Model, Row


@dataclass(frozen=True, slots=True)
class Call:
    """One POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A call that is wrong on purpose, and the status that it must be refused with. `name` says what is wrong."""

    name: str
    call: Call
    status: int


class Dialect(Protocol):
    """One wire protocol over HTTP. Holds no state; every method is a pure function."""

    @property
    def name(self) -> str:
        """As it stands in Locust's tables: one short word."""

    def predict(self, model: Model, rows: Sequence[Row]) -> Call:
        """The call that asks for these rows."""

    def fault(self, model: Model, rows: int, body: bytes) -> str | None:
        """What is wrong with an answer of status 200 to a call with so many rows; `None`: nothing.

        Names and shapes of all outputs are looked at, and that as many values came as they say. A reason names no value
        of its own, so that a thousand wrong answers make one line in the report.
        """

    def reason(self, body: bytes) -> str:
        """The message in the body of an answer that is not 200."""

    def mistakes(self, model: Model) -> Sequence[Mistake]:
        """Wrong calls about a model."""
