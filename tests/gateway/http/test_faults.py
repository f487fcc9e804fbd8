"""What a client can bring about at will is not logged at will, and a refusal knows whose it is."""

from __future__ import annotations

import logging
import time

import pytest

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.server_context import HttpServerContext
from tests.gateway.http.conftest import Way
from tests.gateway.http.planes import MAX_BODY_BYTES, PuppetPlane
from tests.gateway.http.servers import request

_PER_S = 5


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", request("test:80", method="CONNECT")], ids=["a", "b"])
def test_faults_fill_no_log(lane: Way, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    begun_s = time.monotonic()
    for _ in range(100):
        with lane.client() as client:
            client.send(sent)
            assert client.answer().status >= 400
            assert client.ended()
    seconds = int(time.monotonic() - begun_s) + 2
    assert len([line for line in caplog.records if line.levelno >= logging.WARNING]) <= _PER_S * seconds


def test_our_own_faults_are_told_whatever_callers_bring_about(caplog: pytest.LogCaptureFixture) -> None:
    door = HttpServerContext(PuppetPlane(), ConnectionLimits(), lambda: False, HeldBytes(1))
    logger = logging.getLogger("sluice.http")
    for _ in range(100):
        door.faults.warn(logger, "a caller's")
    door.faults.error(logger, "our own", RuntimeError())
    assert [line.getMessage() for line in caplog.records if line.levelno == logging.ERROR] == ["our own"]


def test_an_upgrade_that_is_passed_over_is_not_worth_a_line(lane: Way, caplog: pytest.LogCaptureFixture) -> None:
    with lane.client() as client:
        client.send(request("/v2/echo", b"body", "Connection: Upgrade", "Upgrade: h2c"))
        assert client.answer().body == b"body"
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_a_refusal_has_the_id_of_its_request(own_way: Way) -> None:
    with own_way.client() as client:
        client.send_what_is_taken([request("/v2/echo", b"x" * (MAX_BODY_BYTES + 1), "X-Request-Id: mine")])
        answer = client.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (413, "mine")
