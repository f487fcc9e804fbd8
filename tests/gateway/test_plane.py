from __future__ import annotations

import pytest

from gateway.dialects.v2 import V2
from gateway.http.request_ids import RequestIds
from gateway.plane import Plane, outcome_of
from gateway.serving import Catalogue
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics, Outcome
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


def _plane() -> Plane:
    """A plane without models."""
    metrics = Metrics("0")
    return Plane(
        Catalogue((), Settings(), metrics),
        (V2(),),
        metrics,
        RequestIds(),
        max_body_bytes=1000,
        successes_logged_per_s=0,
        refusals_logged_per_s=0,
    )


async def test_a_target_that_names_no_version_costs_no_more_each_time() -> None:
    """Its route is remembered with its error, which must not gather a traceback with each call."""
    plane = _plane()
    route = plane.recognise(b"/v2/models/digits/versions/latest/infer")
    assert route is not None
    depths = []
    for _ in range(3):
        answer = await plane.answer(route, "POST", (), b"")
        assert answer.status == 404
        assert route.fault is not None
        depths.append(_depth(route.fault))
    assert len(set(depths)) == 1


def _depth(error: BaseException) -> int:
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    return depth


async def test_every_answer_carries_a_request_id() -> None:
    plane = _plane()
    route = plane.recognise(b"/v2/models/digits/infer?x=1")
    assert route is not None
    assert (await plane.answer(route, "POST", ((b"x-request-id", b"mine"),), b"{}")).request_id == b"mine"
    assert (await plane.answer(route, "GET", (), b"")).request_id
    assert plane.refuse(route, (), errors.RequestTooLarge("x")).request_id


def test_pages_are_not_predictions() -> None:
    plane = _plane()
    for target in (b"/", b"/v2", b"/v2/models/digits", b"/v2/models/digits/ready", b"/v2/models//infer", b"\xff"):
        assert plane.recognise(target) is None
