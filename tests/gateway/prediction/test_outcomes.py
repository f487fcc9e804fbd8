from __future__ import annotations

import pytest

from sluice.gateway.prediction.outcomes import outcome_of, refusal_of
from sluice.gateway.telemetry.labels import Outcome, Refusal
from sluice.inference import errors
from sluice.inference.errors import SluiceError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.InvalidRequest("x"), Outcome.INVALID),
        (errors.ModelNotFound("x"), Outcome.NOT_FOUND),
        (errors.RequestTooLarge("x"), Outcome.TOO_LARGE),
        (errors.QueueFull("x"), Outcome.REFUSED),
        (errors.Overloaded("x"), Outcome.REFUSED),
        (errors.ModelNotReady("x"), Outcome.REFUSED),
        (errors.Unavailable("x"), Outcome.REFUSED),
        (errors.DeadlineExceeded("x"), Outcome.TIMEOUT),
        (errors.ModelFailed("x"), Outcome.FAILED),
        (errors.ModelFailed("x", invalid_input=True), Outcome.INVALID),
        (errors.WorkerKilled("x"), Outcome.FAILED),
        (SluiceError("x"), Outcome.FAILED),
    ],
)
def test_every_error_has_an_outcome(error: SluiceError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.QueueFull("x"), Refusal.QUEUE_FULL),
        (errors.Overloaded("x"), Refusal.OVERLOADED),
        (errors.ModelNotReady("x"), Refusal.NOT_READY),
        (errors.Unavailable("x"), Refusal.CROWDED),
        (errors.DeadlineExceeded("x"), Refusal.DEADLINE),
        (errors.InvalidRequest("x"), None),
        (errors.RequestTooLarge("x"), None),
        (errors.WorkerKilled("x"), None),
    ],
)
def test_every_refusal_has_a_reason_and_nothing_else_has(error: SluiceError, reason: Refusal | None) -> None:
    assert refusal_of(error) is reason
