"""The outcome and the reason by which each error is counted in the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sluice.gateway.dialects.refusals import entry_of
from sluice.gateway.telemetry.labels import CallOutcome, RefusalReason
from sluice.inference.errors import (
    DeadlineExceeded,
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
        SluiceError: CallOutcome.FAILED,
    }
)
REFUSALS: Mapping[type[SluiceError], RefusalReason | None] = MappingProxyType(
    {
        QueueFull: RefusalReason.QUEUE_FULL,
        Overloaded: RefusalReason.OVERLOADED,
        ModelNotReady: RefusalReason.NOT_READY,
        Unavailable: RefusalReason.CROWDED,
        DeadlineExceeded: RefusalReason.DEADLINE,
        SluiceError: None,
    }
)


def outcome_of(error: SluiceError) -> CallOutcome:
    """The outcome of a call that ended with this error."""
    return entry_of(error, OUTCOMES)


def refusal_of(error: SluiceError) -> RefusalReason | None:
    """Why there was no time or no room for a call; `None` for every other error."""
    return entry_of(error, REFUSALS)
