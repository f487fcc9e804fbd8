"""Doors that stop to accept are opened anew, and connections of all doors have one bound."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.doors.door_watch import DoorWatch, free_descriptors, open_descriptors

PATIENCE_S = 20.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


class Hello(asyncio.Protocol):
    def __init__(self, budget: ConnectionBudget) -> None:
        self._budget = budget

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(b"full" if self._budget.over else b"welcome")

    def connection_lost(self, exc: Exception | None) -> None:
        self._budget.leave()


def door(budget: ConnectionBudget, name: str = "grpc") -> tuple[Acceptor, socket.socket, int]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    acceptor = Acceptor(name, listener, budget, lambda: Hello(budget), None, 5)
    acceptor.start()
    return acceptor, listener, listener.getsockname()[1]


async def said(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(7), PATIENCE_S)
    finally:
        writer.close()
        await writer.wait_closed()


def closed(listener: socket.socket) -> None:
    os.close(listener.fileno())


def shut_down(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)


def replaced(listener: socket.socket) -> None:
    """Its number is somebody else's: another socket, which listens, too."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        os.dup2(other.fileno(), listener.fileno())


@pytest.mark.parametrize("end", [closed, shut_down, replaced])
def test_a_door_that_is_shut_is_opened_anew(runner: asyncio.Runner, end: Callable[[socket.socket], None]) -> None:
    async def main() -> None:
        budget, reopened = ConnectionBudget(10), list[str]()
        watch = DoorWatch(budget, reopened.append)
        acceptor, listener, port = door(budget)
        watch.add(acceptor)
        assert await said(port) == b"welcome"
        watch.look()
        assert (reopened, watch.faults) == ([], ())
        number = listener.fileno()
        for times in (1, 2):
            listener = acceptor._listener
            end(listener)
            (fault,) = watch.faults
            assert "the door grpc is shut" in fault
            watch.look()
            assert (reopened, watch.faults) == (["grpc"] * times, ())
            assert await said(port) == b"welcome"
        acceptor.close()
        assert acceptor.fault is None
        if end is replaced:
            os.close(number)

    runner.run(main())


def test_the_watch_looks_by_itself_and_goes_on_when_the_address_is_taken(runner: asyncio.Runner) -> None:
    async def main() -> None:
        budget, reopened = ConnectionBudget(10), asyncio.Queue[str]()
        async with DoorWatch(budget, reopened.put_nowait) as watch:
            acceptor, listener, port = door(budget)
            watch.add(acceptor)
            with socket.socket() as thief:
                os.close(listener.fileno())
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                thief.bind(("127.0.0.1", port))
                thief.listen()
                watch.look()
                assert watch.faults
                watch.look()
            assert await asyncio.wait_for(reopened.get(), PATIENCE_S) == "grpc"
            assert await said(port) == b"welcome"
            acceptor.close()

    runner.run(main())


def test_doors_have_one_budget(runner: asyncio.Runner) -> None:
    """Two doors, room for three, and then for 16 more that are told; what is beyond is closed at once."""

    async def main() -> None:
        budget = ConnectionBudget(3)
        doors = [door(budget, name) for name in ("http", "grpc")]
        writers = []
        heard = []
        for number in range(25):
            reader, writer = await asyncio.open_connection("127.0.0.1", doors[number % 2][2])
            writers.append(writer)
            try:
                heard.append(await asyncio.wait_for(reader.read(7), PATIENCE_S))
            except ConnectionError:
                heard.append(b"")
        assert heard == [b"welcome"] * 3 + [b"full"] * 16 + [b""] * 6
        assert budget.refused == 22
        for writer in writers:
            writer.close()
        while budget.open:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        assert await said(doors[1][2]) == b"welcome"
        for acceptor, _, _ in doors:
            acceptor.close()

    runner.run(main())


def test_what_the_system_has_accepted_is_taken_before_the_door_closes(runner: asyncio.Runner) -> None:
    async def main() -> None:
        budget = ConnectionBudget(1000)
        acceptor, _, port = door(budget)
        clients = []
        for _ in range(200):
            client = socket.socket()
            client.connect(("127.0.0.1", port))  # the loop does not run meanwhile
            clients.append(client)
        acceptor.close()
        assert budget.open == 200
        for client in clients:
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 7) == b"welcome"
            client.close()

    runner.run(main())


def test_without_descriptors_nobody_is_let_in(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        budget = ConnectionBudget(1000)
        watch = DoorWatch(budget, lambda name: None)
        watch.look()
        assert not watch.faults
        monkeypatch.setattr("sluice.gateway.doors.door_watch.free_descriptors", lambda: 3)
        watch.look()
        assert watch.faults == ("there are no open files left for connections",)
        assert not budget.enter()
        monkeypatch.undo()
        watch.look()
        assert not watch.faults
        assert budget.enter()

    runner.run(main())


def test_open_files_are_counted() -> None:
    before, free = open_descriptors(), free_descriptors()
    with open("/dev/null"), open("/dev/null"):
        assert open_descriptors() == before + 2
        assert free_descriptors() == free - 2
