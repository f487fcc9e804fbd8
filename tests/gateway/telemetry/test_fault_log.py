"""No client can flood the log, and none can hide our own faults."""

from __future__ import annotations

import logging

import pytest

from sluice.gateway.telemetry.fault_log import LINES_PER_S, FaultLog

LOGGER = logging.getLogger("sluice.grpc")


def test_lines_about_clients_are_few_and_say_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    faults = FaultLog(lambda: now_s)
    for _ in range(LINES_PER_S + 2):
        faults.warn(LOGGER, "nonsense")
    now_s += 1
    faults.warn(LOGGER, "nonsense")
    assert [line.getMessage() for line in caplog.records] == [
        *["nonsense"] * LINES_PER_S,
        "nonsense (2 such lines were kept back)",
    ]


def test_many_faults_of_clients_hide_none_of_our_own(caplog: pytest.LogCaptureFixture) -> None:
    faults, cause = FaultLog(lambda: 100.0), RuntimeError("broken")
    for _ in range(100):
        faults.warn(LOGGER, "nonsense")
    faults.error(LOGGER, "our own", cause)
    last = caplog.records[-1]
    assert (last.levelno, last.getMessage(), last.exc_info and last.exc_info[1]) == (logging.ERROR, "our own", cause)
