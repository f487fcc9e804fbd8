from __future__ import annotations

import pytest

from gateway.plane import outcome_of
from gateway.telemetry.metrics import Outcome
from inference import errors
from inference.errors import SluiceError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.InvalidRequest("x"), Outcome.INVALID),
        (errors.ModelNotFound("x"), Outcome.NOT_FOUND),
        (errors.RequestTooLarge("x"), Outcome.TOO_LARGE),
        (errors.QueueFull("x"), Outcome.REFUSED),
        (errors.ModelNotReady("x"), Outcome.REFUSED),
        (errors.DeadlineExceeded("x"), Outcome.TIMEOUT),
        (errors.ModelFailed("x"), Outcome.FAILED),
        (errors.ModelFailed("x", invalid_input=True), Outcome.INVALID),
        (errors.WorkerKilled("x"), Outcome.FAILED),
        (SluiceError("x"), Outcome.FAILED),
    ],
)
def test_every_error_has_an_outcome(error: SluiceError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome
