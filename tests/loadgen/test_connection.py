"""Answers are read as they come, in whatever pieces, and what is no answer ends the connection."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest

from sluice.loadgen.connection import HttpLine
from sluice.loadgen.pacing import PacedConnection

ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-LENGTH: 5\r\n\r\nabcde"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


class Transport(asyncio.Transport):
    """Takes down what is done to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ends: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.ends.append("aborted")

    def close(self) -> None:
        self.ends.append("closed")


class Told:
    """A pacing that takes down what it is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.losses = 0

    def answered(self, line: PacedConnection, status: int, now_s: float) -> None:
        line.busy = False
        self.statuses.append(status)

    def lost(self, line: PacedConnection, now_s: float) -> None:
        self.losses += 1


def connected(*requests: bytes) -> tuple[HttpLine, Transport, Told]:
    line, transport, told = HttpLine(cycle(requests or (b"a",))), Transport(), Told()
    line.pacing = told
    line.connection_made(transport)
    return line, transport, told


def receive(line: HttpLine, *pieces: bytes) -> None:
    line.busy = True
    for piece in pieces:
        line.data_received(piece)


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED], ids=["length", "chunks"])
def test_an_answer_counts_once_it_is_whole(answer: bytes) -> None:
    line, _, told = connected()
    receive(line, *[answer[place : place + 1] for place in range(len(answer) - 1)])
    assert told.statuses == []

    line.data_received(answer[-1:])

    assert told.statuses == [int(answer[9:12])]
    assert line.open


def test_one_connection_carries_many_requests_in_turn() -> None:
    line, transport, told = connected(b"one", b"two")
    for _ in range(3):
        line.send()
        receive(line, ANSWER)

    assert transport.written == [b"one", b"two", b"one"]
    assert told.statuses == [503, 503, 503]
    assert transport.ends == []


def test_an_interim_answer_is_not_the_answer() -> None:
    line, _, told = connected()
    receive(line, b"HTTP/1.1 100 Continue\r\n\r\n")
    assert told.statuses == []

    line.data_received(ANSWER)

    assert told.statuses == [503]


def test_a_connection_that_the_server_will_close_carries_no_other() -> None:
    line, transport, told = connected()
    receive(line, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    assert told.statuses == [200]
    assert not line.open
    assert transport.ends == ["closed"]


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n", ANSWER + b"f", ANSWER + ANSWER])
def test_what_is_no_answer_ends_the_connection(nonsense: bytes) -> None:
    line, transport, told = connected()
    receive(line, nonsense)

    assert transport.ends == ["aborted"]
    assert told.statuses == []


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    line, transport, told = connected()
    line.data_received(ANSWER)

    assert transport.ends == ["aborted"]
    assert told.statuses == []


def test_a_connection_that_was_made_again_begins_anew() -> None:
    line, _, told = connected()
    receive(line, ANSWER[:30])
    line.connection_lost(None)
    assert (told.losses, line.open) == (1, False)

    line.connection_made(Transport())
    receive(line, ANSWER)

    assert told.statuses == [503]
    assert line.open


def test_a_connection_may_end_before_the_run_begins() -> None:
    line = HttpLine(cycle([b"a"]))
    line.connection_made(Transport())
    line.connection_lost(None)

    assert not line.open
