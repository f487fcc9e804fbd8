"""The only file that imports redis-py: a connection that sends commands and reads replies, and errors in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import redis.exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.host_name import HostName
from sluice.cache.remote.slots import Node
from sluice.inference.errors import Unavailable

Command = tuple[bytes | str | int, ...]
Reply = Any
"""What Redis said: bytes, a number, a list, `None`, or an exception where it refused one command of several."""

_SECRETS_BEGIN = "@"

A_CLUSTER = (
    "it is a node of a Redis Cluster, and holds a part of the keys only: an address that begins with redis+cluster:// "
    "(or rediss+cluster://) uses them all"
)
NO_CLUSTER = "it is no Redis Cluster: its address begins with redis:// (or rediss://)"
NOT_REDIS = "what answers is not Redis"


class CacheUnavailable(Unavailable):
    """Redis does not answer. The message has plain words, and never its address or a password."""


class CommandRefused(CacheUnavailable):
    """Redis has refused a command: it is full, a replica, or does not let this user do it."""


class CommandForbidden(CommandRefused):
    """Redis does not allow this user the command."""


class KeyElsewhere(CommandRefused):
    """This node of a cluster does not answer for a key, or not for all keys of a command together."""


def slot_of(name: bytes) -> int:
    """The slot that a cluster keeps a name in, by the hash tag in it, if there is one."""
    return key_slot(name)


def check_url(url: str) -> None:
    """Raises `ValueError` with plain words, and without secrets, for what cannot be an address of Redis."""
    try:
        cluster = cluster_address(url)
        pool = _pool(url if cluster is None else cluster.url, connect_timeout_s=1.0)
        if cluster is not None and pool.connection_kwargs.get("db"):
            raise ValueError("a Redis Cluster has no database but 0")
        _new_connection(pool)
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        reason = str(error).replace(url, "the address")
        if (userinfo := urlsplit(url).netloc.rpartition(_SECRETS_BEGIN)[0]) and userinfo in reason:
            reason = "it cannot be read"
        raise ValueError(f"the address of Redis cannot be used: {reason}") from None


class Link:
    """One connection. Not connected until `connect`, and after any failure not until `connect` again.

    So a reply that comes too late is never taken for the answer to another command. One caller at a time. With `node`
    it is to that node of a cluster, with all that `url` says but the host and the port.
    """

    def __init__(self, url: str, connect_timeout_s: float, node: Node | None = None) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._pool = _pool(url, connect_timeout_s)
        if node is not None:
            self._pool.connection_kwargs |= {"host": node[0], "port": node[1]}
        host = self._pool.connection_kwargs.get("host")
        self._name = None if host is None else HostName(host)
        self._connection: AbstractConnection | None = None

    @property
    def connected(self) -> bool:
        """Whether commands may be sent."""
        return self._connection is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect anew. Raises `CacheUnavailable`."""
        await self.close()
        connection = _new_connection(self._pool)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._name is not None:
                    await self._name.found()
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py declares no types for it
                await connection.send_packed_command(connection.pack_command("PING"), check_health=False)
                reply = await connection.read_response(disable_decoding=True)
            if reply != b"PONG":
                raise CacheUnavailable(NOT_REDIS)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, Exception):
                raise in_plain_words(error) from None
            raise
        await self.close()
        self._connection = connection

    async def call(self, command: Command, timeout_s: float) -> Reply:
        """The reply to one command. Raises `CacheUnavailable`; `CommandRefused` where the connection is still good."""
        (reply,) = await self.call_all([command], timeout_s)
        if isinstance(reply, Exception):
            raise in_plain_words(reply) from None
        return reply

    async def call_all(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """The replies to commands that are sent together, each an exception where Redis has refused it."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise CacheUnavailable("there is no connection")
        try:
            async with asyncio.timeout(timeout_s):
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                replies = [await _reply(connection) for _ in commands]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, Exception):
                raise in_plain_words(error) from None
            raise
        if self._connection is None:
            self._connection = connection
        else:  # another task has connected anew meanwhile
            await connection.disconnect(nowait=True)
        return replies

    async def close(self) -> None:
        """Send nothing until `connect`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _pool(url: str, connect_timeout_s: float) -> ConnectionPool:
    """The factory of connections to an address."""
    pool = ConnectionPool.from_url(url)
    # The tier relies on these, whatever the address says of them.
    pool.connection_kwargs |= {
        "decode_responses": False,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout_s,
        "driver_info": None,
    }
    for unwanted in ("retry_on_timeout", "cache", "cache_config", "max_connections", "timeout"):
        pool.connection_kwargs.pop(unwanted, None)
    return pool


def _new_connection(pool: ConnectionPool) -> AbstractConnection:
    return pool.connection_class(**pool.connection_kwargs)


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except redis.exceptions.ResponseError as error:
        return error


def in_plain_words(error: Exception) -> CacheUnavailable:
    """Our error for an error of redis-py."""
    match error:
        case CacheUnavailable():
            return error
        case TimeoutError() | redis.exceptions.TimeoutError():
            return CacheUnavailable("it does not answer in time")
        case redis.exceptions.AuthenticationError() | redis.exceptions.AuthenticationWrongNumberOfArgsError():
            return CacheUnavailable("it does not accept the user or the password")
        case redis.exceptions.BusyLoadingError():
            return CacheUnavailable("it is loading its data")
        case redis.exceptions.OutOfMemoryError():
            return CommandRefused("it is full")
        case redis.exceptions.ReadOnlyError():
            return CommandRefused("it is a replica and takes no writes")
        case redis.exceptions.NoPermissionError():
            return CommandForbidden("the user may not do this")
        case redis.exceptions.InvalidResponse():
            return CacheUnavailable(NOT_REDIS)
        case redis.exceptions.AskError() | redis.exceptions.TryAgainError() | redis.exceptions.ClusterCrossSlotError():
            return KeyElsewhere(A_CLUSTER)
        case redis.exceptions.ClusterDownError() | redis.exceptions.MasterDownError():
            return CacheUnavailable("the cluster is down: not every slot has a node")
        case redis.exceptions.ResponseError():
            return CommandRefused("it refused a command")
        case OSError() | redis.exceptions.ConnectionError():
            return CacheUnavailable("it cannot be reached")
        case _:
            return CacheUnavailable(f"talking to it failed with {type(error).__name__}")
