"""Pings on gRPC's connections, both ways: who keeps a quiet connection alive is let, and who has gone is noticed."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving, with_grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


def frame(kind: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload


def ping(number: int) -> bytes:
    return frame(PING, 0, struct.pack(">Q", number))


class Peer:
    """A client that speaks HTTP/2 and calls nothing."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._unread = b""
        self.send(PREFACE + frame(SETTINGS, 0))

    def send(self, data: bytes) -> None:
        self._wire.sendall(data)

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and payload of what comes, until the server hangs up."""
        while True:
            while len(self._unread) < 9 or len(self._unread) < 9 + int.from_bytes(self._unread[:3], "big"):
                try:
                    data = self._wire.recv(65536)
                except ConnectionResetError:
                    return
                if not data:
                    return
                self._unread += data
            end = 9 + int.from_bytes(self._unread[:3], "big")
            kind, flags, payload = self._unread[3], self._unread[4], self._unread[9:end]
            self._unread = self._unread[end:]
            yield kind, flags, payload


@contextmanager
def quiet(server: SluiceProcess) -> Iterator[Peer]:
    with socket.create_connection(("127.0.0.1", server.grpc_port), PATIENCE_S) as wire:
        yield Peer(wire)


@contextmanager
def served(settings: Mapping[str, str]) -> Iterator[SluiceProcess]:
    env = {f"SLUICE_SERVER_GRPC_{name}": value for name, value in settings.items()}
    with serving(EXAMPLES, *with_grpc(), env=env) as server:
        yield server


def answered(peer: Peer, pings: int) -> int:
    """How many of so many pings are answered before the server hangs up."""
    count = 0
    for kind, flags, _ in peer.frames():
        count += (kind, flags) == (PING, ACK)
        if count == pings:
            break
    return count


def hung_up_on(peer: Peer) -> bool:
    """Whether the server says that there were too many pings. Waits until it has closed the connection."""
    return any([kind == GOAWAY and b"too_many_pings" in payload for kind, _, payload in peer.frames()])


def test_a_client_that_pings_now_and_then_is_borne(examples: SluiceProcess) -> None:
    """As often as keepalive is ever set to, on a connection without a call."""
    pause = threading.Event()
    with quiet(examples) as peer:
        for number in range(15):
            peer.send(ping(number))
            assert answered(peer, 1) == 1
            pause.wait(0.15)  # the interval is what is tried; a longer one does no harm


def test_a_flood_of_pings_ends_its_connection_and_no_other(examples: SluiceProcess) -> None:
    with quiet(examples) as other, quiet(examples) as peer:
        peer.send(b"".join(map(ping, range(1000))))
        assert hung_up_on(peer)
        other.send(ping(1))
        assert answered(other, 1) == 1


def test_any_number_of_pings_is_borne_where_it_may_be() -> None:
    with served({"MIN_PING_INTERVAL_S": "0"}) as server, quiet(server) as peer:
        for _ in range(50):
            peer.send(b"".join(map(ping, range(20))))
            assert answered(peer, 20) == 20


def test_pings_may_be_kept_apart_further() -> None:
    """By as much as gRPC has it unless told otherwise; a few that are too early are borne all the same."""
    with served({"MIN_PING_INTERVAL_S": "300"}) as server, quiet(server) as peer:
        peer.send(b"".join(map(ping, range(5))))
        assert answered(peer, 5) == 5
        peer.send(b"".join(map(ping, range(30))))
        assert hung_up_on(peer)


def test_a_client_that_has_gone_is_noticed_and_one_that_is_quiet_is_kept() -> None:
    with served({"KEEPALIVE_TIME_S": "0.2", "KEEPALIVE_TIMEOUT_S": "0.5"}) as server:
        with quiet(server) as gone:
            kinds = [(kind, flags) for kind, flags, _ in gone.frames()]  # none of them is answered
            assert (PING, 0) in kinds
        with quiet(server) as alive:
            asked = 0
            for kind, flags, payload in alive.frames():
                if (kind, flags) == (PING, 0):
                    alive.send(frame(PING, ACK, payload))
                    asked += 1
                if asked == 8:
                    break
            assert asked == 8
