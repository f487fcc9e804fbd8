from __future__ import annotations

import pytest

from sluice.gateway.prediction.outcomes import outcome_of, refusal_of
from sluice.gateway.telemetry.labels import CallOutcome, RefusalReason
from sluice.inference import errors
from sluice.inference.errors import SluiceError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.InvalidRequest("x"), CallOutcome.INVALID),
        (errors.ModelNotFound("x"), CallOutcome.NOT_FOUND),
        (errors.RequestTooLarge("x"), CallOutcome.TOO_LARGE),
        (errors.QueueFull("x"), CallOutcome.REFUSED),
        (errors.Overloaded("x"), CallOutcome.REFUSED),
        (errors.ModelNotReady("x"), CallOutcome.REFUSED),
        (errors.Unavailable("x"), CallOutcome.REFUSED),
        (errors.DeadlineExceeded("x"), CallOutcome.TIMEOUT),
        (errors.ModelFailed("x"), CallOutcome.FAILED),
        (errors.ModelFailed("x", invalid_input=True), CallOutcome.INVALID),
        (errors.WorkerKilled("x"), CallOutcome.FAILED),
        (SluiceError("x"), CallOutcome.FAILED),
    ],
)
def test_every_error_has_an_outcome(error: SluiceError, outcome: CallOutcome) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.QueueFull("x"), RefusalReason.QUEUE_FULL),
        (errors.Overloaded("x"), RefusalReason.OVERLOADED),
        (errors.ModelNotReady("x"), RefusalReason.NOT_READY),
        (errors.Unavailable("x"), RefusalReason.CROWDED),
        (errors.DeadlineExceeded("x"), RefusalReason.DEADLINE),
        (errors.InvalidRequest("x"), None),
        (errors.RequestTooLarge("x"), None),
        (errors.WorkerKilled("x"), None),
    ],
)
def test_every_refusal_has_a_reason_and_nothing_else_has(error: SluiceError, reason: RefusalReason | None) -> None:
    assert refusal_of(error) is reason
