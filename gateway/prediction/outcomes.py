"""The outcome and the reason by which each error is counted in the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from sluice.gateway.telemetry.labels import CallOutcome, RefusalReason
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

OUTCOMES: Mapping[type[SluiceError], CallOutcome] = MappingProxyType(
    {
        ModelNotFound: CallOutcome.NOT_FOUND,
        RequestTooLarge: CallOutcome.TOO_LARGE,
        RequestError: CallOutcome.INVALID,
        Unavailable: CallOutcome.REFUSED,
        DeadlineExceeded: CallOutcome.TIMEOUT,
        ExecutionError: CallOutcome.FAILED,
    }
)
REFUSALS: Mapping[type[SluiceError], RefusalReason] = MappingProxyType(
    {
        QueueFull: RefusalReason.QUEUE_FULL,
        Overloaded: RefusalReason.OVERLOADED,
        ModelNotReady: RefusalReason.NOT_READY,
        Unavailable: RefusalReason.CROWDED,
        DeadlineExceeded: RefusalReason.DEADLINE,
    }
)

KindT = TypeVar("KindT")


def outcome_of(error: SluiceError) -> CallOutcome:
    """The outcome of a call that ended with this error: that of its nearest ancestor in the table."""
    if isinstance(error, ModelFailed) and error.invalid_input:
        return CallOutcome.INVALID
    return _nearest(OUTCOMES, error) or CallOutcome.FAILED


def refusal_of(error: SluiceError) -> RefusalReason | None:
    """Why there was no time or no room for a call; `None` for every other error."""
    return _nearest(REFUSALS, error)


def _nearest(table: Mapping[type[SluiceError], KindT], error: SluiceError) -> KindT | None:
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return None
