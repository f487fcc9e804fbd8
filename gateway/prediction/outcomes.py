"""How the errors of the house are counted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from sluice.gateway.telemetry.labels import Outcome, Refusal
from sluice.inference.errors import (
    DeadlineExceeded,
    ExecutionError,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    QueueFull,
    RequestError,
    RequestTooLarge,
    SluiceError,
    Unavailable,
)

OUTCOMES: Mapping[type[SluiceError], Outcome] = MappingProxyType(
    {
        ModelNotFound: Outcome.NOT_FOUND,
        RequestTooLarge: Outcome.TOO_LARGE,
        RequestError: Outcome.INVALID,
        Unavailable: Outcome.REFUSED,
        DeadlineExceeded: Outcome.TIMEOUT,
        ExecutionError: Outcome.FAILED,
    }
)
REFUSALS: Mapping[type[SluiceError], Refusal] = MappingProxyType(
    {
        QueueFull: Refusal.QUEUE_FULL,
        Overloaded: Refusal.OVERLOADED,
        ModelNotReady: Refusal.NOT_READY,
        Unavailable: Refusal.CROWDED,
        DeadlineExceeded: Refusal.DEADLINE,
    }
)

KindT = TypeVar("KindT")


def outcome_of(error: SluiceError) -> Outcome:
    """How a call that ended with this error is counted: by the nearest of the error's ancestors in the table."""
    if isinstance(error, ModelFailed) and error.invalid_input:
        return Outcome.INVALID
    return _nearest(OUTCOMES, error) or Outcome.FAILED


def refusal_of(error: SluiceError) -> Refusal | None:
    """Why there was no time or no room for a call; `None` for every other error."""
    return _nearest(REFUSALS, error)


def _nearest(table: Mapping[type[SluiceError], KindT], error: SluiceError) -> KindT | None:
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return None
