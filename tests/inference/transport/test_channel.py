from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import msgspec
import pytest

from sluice.inference.findings import Evidence, Findings
from sluice.inference.serving_plan import PlanTerms, ServingPlan
from sluice.inference.transport.arena import ArenaShape
from sluice.inference.transport.channel import (
    PACKET_BYTES,
    TEXT_BYTES,
    Channel,
    NotSent,
    PeerGone,
    WireError,
    clipped,
    connected,
)
from sluice.inference.transport.layout import Placed
from sluice.inference.transport.messages import (
    ANSWERS,
    ORDERS,
    Done,
    Failed,
    KnownVersion,
    Load,
    Loaded,
    LoadFailed,
    Run,
    ShareArena,
    WorkerAnswer,
    WorkerOrder,
)
from sluice.inference.types import Datatype, Knot, Signature, TensorSpec
from tests.inference.running import descriptors

FOUND = Findings(Evidence.TRIED, "the model keeps rows apart")
PLAN = ServingPlan(2, 3, 64, (Knot(1, 1e-4), Knot(2, 1.5e-4)), ("because",))
SPEC = TensorSpec("größe", Datatype.BF16, (None, 3))


class Pair:
    """Both sides, and the gateway's own sockets."""

    def __init__(self) -> None:
        self.raw, theirs = connected()
        self.gateway: Channel[WorkerAnswer] = Channel(self.raw, ANSWERS)
        self.worker: Channel[WorkerOrder] = Channel(theirs, ORDERS)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.gateway.close()
    pair.worker.close()


@pytest.mark.parametrize(
    "order",
    [
        Load("/models/a b/1/model.onnx", "cuda:1", PlanTerms(8, "cuda:1", 2, 1, 32, 0.05, 1 << 40)),
        Load("/m.onnx", "cpu", PLAN, False),
        Load(
            "/m.onnx", "cpu", PLAN, None, (), "/m/sample.json", KnownVersion(Signature((SPEC,), (SPEC,), True), FOUND)
        ),
        ShareArena(ArenaShape(4096, 8192)),
        Run(1, (Placed(0, 12, (1, 3)), Placed(64, 0, (0,)), Placed(64, 4, ())), (1, 0), 0),
        Run(0, (), (0,), 1 << 40),
    ],
)
def test_orders_arrive_as_they_were_sent(pair: Pair, order: WorkerOrder) -> None:
    pair.gateway.send(order)
    assert pair.worker.receive() == (order, None)


@pytest.mark.parametrize(
    "answer",
    [
        Loaded(Signature((SPEC,), (SPEC, SPEC), True), PLAN, FOUND),
        Loaded(Signature((), (SPEC,), False), PLAN, Findings(Evidence.DECLARED, "the model has no inputs")),
        Loaded(
            Signature((SPEC,), (SPEC,), False),
            PLAN,
            Findings(Evidence.NONE, "because", "all", "it varies", "!", ("a",), ("b",)),
        ),
        LoadFailed("no such file"),
        Done((Placed(0, 12, (1, 3)),), 0, 12.5, 1.5e-05),
        Failed("out of range", True),
    ],
)
def test_answers_arrive_as_they_were_sent(pair: Pair, answer: WorkerAnswer) -> None:
    pair.worker.send(answer)
    assert pair.gateway.receive() == (answer, None)


def test_messages_keep_their_borders(pair: Pair) -> None:
    for message in ("one", "two"):
        pair.worker.send(LoadFailed(message))
    assert [pair.gateway.receive()[0] for _ in range(2)] == [LoadFailed("one"), LoadFailed("two")]


def test_a_descriptor_travels_with_its_message_and_is_not_inherited(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as writer:
        pair.worker.send(Failed("", False))
        pair.worker.send(Done((), 1, 0.0, 0.0), read_end)
        assert pair.gateway.receive()[1] is None
        _, received = pair.gateway.receive()
        assert received is not None
        writer.write(b"through")
    os.close(read_end)
    assert not os.get_inheritable(received)
    with os.fdopen(received, "rb") as reader:
        assert reader.read() == b"through"


def test_an_end_that_closed_is_gone_for_both_ways(pair: Pair) -> None:
    pair.worker.close()
    with pytest.raises(PeerGone):
        pair.gateway.receive()
    with pytest.raises(PeerGone):
        pair.gateway.send(Load("", "cpu", PLAN))


def test_an_answer_is_received_although_its_sender_ended_with_an_order_unread(pair: Pair) -> None:
    pair.gateway.send(Load("", "cpu", PLAN))
    pair.worker.send(LoadFailed("last words"))
    pair.worker.close()
    poll = select.poll()
    poll.register(pair.raw.receives, select.POLLIN)
    assert poll.poll(0)[0][1] & select.POLLERR == 0
    assert pair.gateway.receive() == (LoadFailed("last words"), None)
    assert poll.poll(0)[0][1] & select.POLLERR == 0
    with pytest.raises(PeerGone):
        pair.gateway.receive()


def test_nothing_to_read_does_not_block_a_socket_that_must_not(pair: Pair) -> None:
    pair.raw.receives.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair.gateway.receive()


@pytest.mark.parametrize("packet", [b"\x00", b"no msgpack", msgspec.msgpack.encode([99, "unknown tag"])])
def test_a_packet_that_is_no_message_is_refused_and_its_descriptor_closed(pair: Pair, packet: bytes) -> None:
    before = descriptors()
    socket.send_fds(pair.raw.sends, [packet], [0])
    with pytest.raises(WireError):
        pair.worker.receive()
    assert descriptors() == before


def test_a_message_too_large_for_a_packet_is_refused(pair: Pair) -> None:
    with pytest.raises(NotSent, match=f"at most {PACKET_BYTES}"):
        pair.worker.send(LoadFailed("x" * PACKET_BYTES))


def test_a_message_for_which_there_is_no_room_leaves_the_channel_well(pair: Pair) -> None:
    pair.raw.sends.setblocking(False)
    large = Load("x" * (PACKET_BYTES // 2), "cpu", PLAN)

    def send_without_end() -> None:
        while True:
            pair.gateway.send(large)

    with pytest.raises(NotSent):
        send_without_end()
    pair.worker.receive()
    pair.gateway.send(Load("", "cpu", PLAN))


def test_a_socket_that_takes_nothing_any_more_is_no_passing_matter(pair: Pair) -> None:
    pair.raw.sends.close()
    with pytest.raises(WireError) as caught:
        pair.gateway.send(Load("", "cpu", PLAN))
    assert not isinstance(caught.value, NotSent)


@pytest.mark.parametrize("text", ["", "short", "ü" * (TEXT_BYTES // 2), "lone \udcff surrogate"])
def test_words_that_fit_are_passed_on(pair: Pair, text: str) -> None:
    pair.worker.send(Failed(clipped(text), False))
    assert pair.gateway.receive() == (Failed(text.replace("\udcff", "?"), False), None)


def test_words_of_any_length_can_be_sent(pair: Pair) -> None:
    text = clipped("a" + "ü" * PACKET_BYTES)
    assert text == "a" + "ü" * (TEXT_BYTES // 2 - 1) + "…"
    pair.worker.send(Failed(text, False))


def test_a_packet_too_large_is_refused(pair: Pair) -> None:
    pair.raw.sends.send(bytes(PACKET_BYTES + 1))
    with pytest.raises(WireError, match=f"more than {PACKET_BYTES}"):
        pair.worker.receive()
