"""The connection alone: its deadlines, its order, its end. Time is the test's own, and nothing waits for anything."""

from __future__ import annotations

import gc
import math

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http import wire
from sluice.gateway.http.connection import HttpConnection
from sluice.gateway.http.request_order import RequestOrder
from sluice.gateway.http.request_parser import RequestParser
from tests.gateway.http.bare import KEEP_ALIVE_S, BareSide
from tests.gateway.http.planes import PuppetPlane
from tests.gateway.http.servers import Conversation, chunked, request

LIMITS = ConnectionLimits()
READ_S, WRITE_S, LINGER_S = LIMITS.request_read_timeout_s, LIMITS.write_timeout_s, LIMITS.linger_s


def _heard(side: BareSide) -> bytes:
    heard = bytes(side.stream.written)
    side.stream.written.clear()
    return heard


# How long a client may take.


def test_one_that_never_asks_is_closed() -> None:
    side = BareSide()
    side.wait(READ_S - 1)
    assert not side.stream.closing
    side.wait(1)
    assert side.stream.closing
    assert not _heard(side)


def test_an_idle_one_is_closed() -> None:
    side = BareSide()
    with Conversation(side) as client:
        client.send(request("/v2/echo", b"once"))
        assert client.answer().body == b"once"
        side.wait(KEEP_ALIVE_S - 1)
        assert not side.stream.closing
        side.wait(1)
        assert client.ended()


def test_there_is_no_hurry_while_an_answer_is_worked_out() -> None:
    side = BareSide()
    side.connection.receive(request("/v2/echo"), side.now_s)
    assert side.connection.life.deadline == math.inf
    side.run()
    assert side.connection.life.deadline == side.now_s + KEEP_ALIVE_S


@pytest.mark.parametrize(
    "sent",
    [b"PO", request("/v2/echo", b"hello")[:-1], request("/app/echo", b"hello")[:-1], chunked("/v2/echo", b"abc")[:-2]],
    ids=["a line", "a body", "a page's body", "chunks"],
)
def test_a_trickle_does_not_help_a_slow_sender(sent: bytes) -> None:
    side = BareSide()
    with Conversation(side) as client:
        client.send(sent[:1])
        for at in range(1, len(sent)):
            side.wait(READ_S / len(sent))
            client.send(sent[at : at + 1])
        side.wait(READ_S)
        assert client.answer().status == 408
        assert client.ended()


def test_a_long_body_may_take_longer() -> None:
    side = BareSide(limits=ConnectionLimits(min_body_bytes_per_s=1000))
    body = b"x" * 100_000
    sent = request("/v2/echo", body)
    with Conversation(side) as client:
        client.send(sent[:-1])
        side.wait(READ_S)
        assert side.connection.life.deadline == pytest.approx(side.now_s + len(body) / 1000, abs=1)
        side.wait(90)
        client.send(sent[-1:])
        assert client.answer().body == body


def test_a_page_that_does_not_read_on_is_not_the_client_s_fault() -> None:
    side = BareSide()
    side.sendall(request("/app/echo", b"hello")[:-1])
    side.flow.pause_reading()
    side.wait(READ_S)
    side.wait(READ_S)
    assert not _heard(side)
    side.flow.resume_reading()
    side.wait(READ_S)
    side.wait(1)
    assert b" 408 " in _heard(side)


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "below TLS"])
def test_a_client_that_takes_nothing_is_cut_off(hidden: bool) -> None:
    side = BareSide()
    side.backlog.hidden = hidden
    side.connection.receive(request("/v2/large/300000"), side.now_s)
    side.backlog.bytes = 200_000
    if not hidden:
        side.flow.write_paused = True
        side.connection.writing_paused(side.now_s)
    side.run()
    assert side.connection.life.unsent_bytes == 200_000
    for _ in range(3):
        side.backlog.bytes -= 1
        side.wait(WRITE_S)
        assert not side.stream.aborted
    side.wait(WRITE_S)
    assert side.stream.aborted
    side.close()


def test_a_client_that_reads_on_gets_its_next_answer() -> None:
    side = BareSide()
    side.connection.receive(request("/v2/large/300000") + request("/v2/echo", b"next"), side.now_s)
    side.flow.write_paused, side.backlog.bytes = True, 1
    side.connection.writing_paused(side.now_s)
    side.run()
    assert len(side.begun) == 1
    assert side.held.now_bytes >= 300_000
    side.flow.write_paused, side.backlog.bytes = False, 0
    side.connection.writing_resumed(side.now_s)
    side.run()
    assert len(side.begun) == 2
    assert side.stream.written.endswith(b"next")
    assert side.held.now_bytes == 0


# Whose turn it is.


@pytest.mark.parametrize("first", ["/v2", "/app"])
@pytest.mark.parametrize("second", ["/v2", "/app"])
def test_what_waits_is_not_begun_and_nothing_more_is_read(first: str, second: str) -> None:
    side = BareSide()
    side.connection.receive(request(f"{first}/echo", b"1"), side.now_s)
    assert not side.flow.read_paused
    side.connection.receive(request(f"{second}/echo", b"2"), side.now_s)
    side.connection.receive(request("/v2/echo", b"3"), side.now_s)
    assert side.flow.read_paused
    assert len(side.due) == 1
    assert len(side.connection.order.waiting) == 1
    assert side.held.now_bytes > 0
    side.run()
    assert not side.flow.read_paused
    assert [side.stream.written.find(b"\r\n\r\n%d" % number) >= 0 for number in (1, 2, 3)] == [True] * 3
    side.close()


def test_a_body_is_asked_for_in_its_turn() -> None:
    side = BareSide()
    ask = request("/v2/echo", b"", "Expect: 100-continue", "Content-Length: 5", length=False)
    side.connection.receive(request("/v2/echo") + ask, side.now_s)
    assert not side.stream.written
    side.run()
    assert _heard(side).endswith(wire.CONTINUE)
    side.sendall(b"hello")
    assert _heard(side).endswith(b"hello")


def test_an_order_counts_what_waits_in_it() -> None:
    order, side = RequestOrder(), BareSide()
    side.sendall(request("/v2/echo", b"hello") + request("/app/echo"))
    prediction, page = side.begun[0], side.pages[0]
    assert order.take_place(prediction)
    assert order.held_bytes() == 5
    assert not order.take_place(page)
    with_page = order.held_bytes()
    assert not order.take_place(prediction)
    assert (order.last, len(order.waiting)) == (prediction, 2)
    order.withdraw_last()
    assert (order.held_bytes(), order.last) == (with_page, page)
    assert order.advance() is page
    assert (order.current, len(order.waiting), order.held_bytes()) == (page, 0, 0)
    with pytest.raises(IndexError):
        order.advance()


# How it ends.


def test_a_refused_client_hears_it_and_may_send_on_for_a_while() -> None:
    side = BareSide(PuppetPlane(max_body_bytes=1000))
    with Conversation(side) as client:
        client.send(request("/v2/echo", b"x" * 3_000_000))
        assert (side.stream.eof, side.stream.closing) == (True, False)
        assert client.answer().status == 413
        side.wait(LINGER_S)
        assert side.stream.aborted


def test_a_refused_client_may_not_send_on_for_ever() -> None:
    side = BareSide(PuppetPlane(max_body_bytes=1000), ConnectionLimits(linger_bytes=100_000))
    with Conversation(side) as client, pytest.raises(BrokenPipeError):
        client.send(request("/v2/echo", b"x" * 1001), *[b"x" * 10_000] * 12)


def test_what_follows_the_last_request_is_read_only_to_a_bound() -> None:
    side = BareSide(limits=ConnectionLimits(linger_bytes=100_000))
    side.connection.receive(request("/v2/echo", b"last", "Connection: close"), side.now_s)
    side.connection.receive(b"x" * 60_000, side.now_s)
    assert not side.flow.read_paused
    side.connection.receive(b"x" * 60_000, side.now_s)
    assert side.flow.read_paused
    side.run()
    assert _heard(side).endswith(b"last")
    assert (side.stream.eof, side.stream.closing, side.flow.read_paused) == (True, False, False)


def test_a_page_that_answers_early_does_not_let_its_client_send_for_ever() -> None:
    side = BareSide(limits=ConnectionLimits(linger_bytes=100_000))
    sent = request("/app/early", b"x" * 500_000)
    with Conversation(side) as client:
        client.send(sent[:1000])
        assert client.answer().body == b"early"
        client.send(*[sent[at : at + 4000] for at in range(1000, 103_000, 4000)])
        assert (side.stream.eof, side.stream.closing) == (True, False)


def test_a_page_that_is_refused_in_mid_answer_ends_at_once() -> None:
    side = BareSide()
    side.sendall(request("/app/echo", b"hello")[:-1])
    side.pages[0].answer_begun = True
    side.wait(READ_S)
    side.wait(1)
    assert side.pages[0].disconnected
    assert side.stream.closing
    assert not side.stream.written


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_a_stopping_server_answers_what_is_on_its_way(prefix: str) -> None:
    side = BareSide()
    with Conversation(side) as client:
        side.connection.shutdown(side.now_s)
        assert side.connection.life.deadline == side.now_s + LIMITS.farewell_s
        client.send(request(f"{prefix}/echo", b"late"))
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert client.ended()


def test_a_stopping_server_says_no_more_to_an_idle_client() -> None:
    side = BareSide()
    side.connection.shutdown(side.now_s)
    side.wait(LIMITS.farewell_s)
    assert side.stream.closing


def test_an_answer_that_is_given_up_is_told() -> None:
    side = BareSide()
    side.connection.receive(request("/v2/echo"), side.now_s)
    side.connection.given_up(side.begun[0])
    assert b" 503 " in _heard(side)
    assert side.stream.closing


def test_while_draining_an_answer_is_the_last_if_none_waits() -> None:
    side = BareSide()
    side.draining.set()
    with Conversation(side) as client:
        client.send(request("/v2/echo") * 2)
        assert [client.answer().headers.get("connection") for _ in range(2)] == [None, "close"]
        assert client.ended()


@pytest.mark.parametrize(("surplus", "told"), [(1, True), (1_000_000, False)])
def test_a_client_too_many_is_told_so_unless_there_are_far_too_many(surplus: int, told: bool) -> None:
    side = BareSide()
    side.connection.turn_away(surplus, side.now_s)
    assert (b" 503 " in _heard(side)) == told
    assert (side.stream.eof, side.stream.aborted) == (told, not told)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        request("/v2/echo")[:10],
        request("/v2/echo", b"x" * 150_000)[:-1],
        request("/app/echo", b"x" * 150_000)[:-1],
        request("/v2/echo") * 300,
        request("/app/echo") * 300,
        b"nonsense\r\n\r\n",
    ],
    ids=["nothing", "a head", "a body", "a page's body", "predictions", "pages", "nonsense"],
)
def test_nothing_is_left_of_a_client_that_has_gone(sent: bytes) -> None:
    """The garbage collector has no part in it."""
    gc.disable()
    try:
        before = _alive()
        side = BareSide()
        if sent:
            side.connection.receive(sent, side.now_s)
        side.close()
        assert [page.disconnected for page in side.pages] == [True] + [False] * (len(side.pages) - 1) or not side.pages
        side.pages.clear()
        side.due.clear()
        del side
        assert _alive() == before
    finally:
        gc.enable()


def _alive() -> int:
    return sum(isinstance(each, HttpConnection | RequestParser) for each in gc.get_objects())


# How much it holds.


def test_a_client_that_takes_too_little_makes_room() -> None:
    side = BareSide(limits=ConnectionLimits(max_buffered_bytes=1000, crowded_grace_s=1.0, min_body_bytes_per_s=1000))
    side.sendall(request("/v2/large/300000"))
    side.backlog.bytes = 100_000
    for takes_bytes, cut_off in ((1000, False), (1001, False), (999, True)):
        side.connection.life.make_room(side.now_s)
        side.now_s += 1.0
        side.backlog.bytes -= takes_bytes
        side.connection.life.make_room(side.now_s)
        assert side.stream.aborted == cut_off
        assert side.held.now_bytes == 0 or not cut_off


def test_while_too_much_is_held_what_comes_last_is_refused() -> None:
    side = BareSide(limits=ConnectionLimits(max_buffered_bytes=50_000))
    side.sendall(request("/v2/echo", b"x" * 100_000)[:-1])
    heard = _heard(side)
    assert b" 503 " in heard
    assert b"retry-after: 1\r\n" in heard
    assert side.held.now_bytes == 0
