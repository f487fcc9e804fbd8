"""Accepts connections on one listening socket, within the budget of all doors, and can open the socket anew."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.last_connections import accept_the_last
from sluice.gateway.telemetry.logs import log

BACKLOG = 2048
AT_ONCE = 64
"""Connections that are accepted in one turn of the event loop, so that open connections have their turn, too."""

REST_S = 0.1
"""How long nothing is accepted once descriptors or memory have run out."""

_CLIENT_WENT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH})
_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts connections on a bound socket, which it owns from `start` on, and hands each to a new protocol.

    A connection counts from the moment it is accepted, so clients that send nothing, or do not finish their TLS
    handshake, count, too. Its protocol gives its place back (`ConnectionBudget.leave`) when the connection is lost.
    A connection for which the budget has no place is closed at once. `fault` says what keeps the acceptor from
    accepting; `give_up` and then `reopen` make a new socket at the same address. For the event loop's thread only.
    """

    def __init__(
        self,
        door: str,
        listener: socket.socket,
        budget: ConnectionBudget,
        protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
    ) -> None:
        self.door = door
        self._listener = listener
        self._address = listener.getsockname()
        self._family = listener.family
        self._budget = budget
        self._protocol = protocol
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._number = -1
        self._open = False
        self._failed = ""
        self._resting: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen, and accept from now on. Raises `OSError`."""
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._number = self._listener.fileno()
        self._loop.add_reader(self._number, self._accept)
        self._open = True
        self._failed = ""

    async def leave(self) -> None:
        """Keep new connections from beginning, accept those that have begun, and close."""
        if self._open and not self._failed:
            await accept_the_last([self._listener])
        self.close()

    def close(self) -> None:
        """Accept what the kernel has accepted already, and then nothing more."""
        if not self._open:
            return
        self._open = False
        while not self._failed and self._accept() == AT_ONCE:
            pass
        self._stop_reading()
        self._listener.close()

    @property
    def listener(self) -> socket.socket:
        """The socket that it listens on now; another one after `reopen`."""
        return self._listener

    @property
    def fault(self) -> str | None:
        """What keeps it from accepting, as a text for people; `None` while it accepts, or is closed on purpose."""
        if not self._open:
            return None
        if self._failed:
            return self._failed
        try:
            # Its descriptor may belong to another file by now.
            listens = self._listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and self._listener.getsockname() == self._address:
                return None
        except OSError as error:
            return f"its socket is gone: {error.strerror}"
        return "its socket does not listen any more"

    def give_up(self) -> None:
        """Let go of a socket that is faulty.

        All faulty sockets are given up before any is opened anew: a new one may get the descriptor of another.
        """
        self._stop_reading()
        if self._failed:
            self._listener.close()
        else:
            # Its descriptor may belong to another file by now, which is not ours to close.
            self._listener.detach()
        self._failed = "its socket is gone"

    def reopen(self) -> None:
        """Listen at the same address with a new socket. Raises `OSError`; it can be tried again then."""
        self._listener = listener = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._address)
            self.start()
        except OSError:
            listener.close()
            raise

    def _accept(self) -> int:
        """Accept up to `AT_ONCE` connections, and return how many came; fewer mean that no more wait."""
        for number in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return number
            except OSError as error:
                if error.errno in _CLIENT_WENT:
                    continue
                if error.errno in _NOTHING_LEFT:
                    self._budget.refused += 1
                    self._rest()
                else:
                    self._failed = f"it accepts nothing: {error.strerror}"
                    self._stop_reading()
                return number
            if self._budget.enter():
                task = self._loop.create_task(self._connect(connection))
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
            else:
                connection.close()
        return AT_ONCE

    async def _connect(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._handshake_timeout_s,
            )
        except Exception as error:
            # The handshake failed, or the client is gone. No protocol knows of it, so the place is given back here.
            self._budget.leave()
            connection.close()
            if not isinstance(error, OSError):
                log.error("a connection could not be made", door=self.door, exc_info=error)

    def _rest(self) -> None:
        if self._open and self._resting is None:
            self._loop.remove_reader(self._number)
            self._resting = self._loop.call_later(REST_S, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        if self._open and self.fault is None:
            self._loop.add_reader(self._number, self._accept)

    def _stop_reading(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._number >= 0:
            # Where its descriptor is a connection's by now, the loop raises; it has forgotten the listener already.
            with suppress(RuntimeError):
                self._loop.remove_reader(self._number)
            self._number = -1
