"""The Redis tier with a real Redis, and with servers that are anything but one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.cache.remote.redis_link import CacheUnavailable, check_url
from sluice.cache.remote.tier import RedisOptions, RedisTier
from tests.cache.remote_tiers import PATIENT, SPACE, counts, until
from tests.redis_server import RedisServer, redis_server, speaks_tls

KEYS = [bytes([number]) * 16 for number in range(5)]
PROBE = [b"MGET", b"sluice:", b"sluice:try"]
"""How the tier finds out whether it is answered, and whether this is a node of a cluster."""


async def stored(tier: RedisTier, *pairs: tuple[bytes, bytes], ttl_s: float = 60.0) -> None:
    told = counts()
    for key, value in pairs:
        tier.store(SPACE, key, value, ttl_s, told)
    await until(lambda: told.stores + told.dropped == len(pairs))
    assert told.stores == len(pairs)


async def values(tier: RedisTier, *keys: bytes) -> list[bytes | None] | None:
    looked = await tier.lookup(SPACE, keys)
    return None if looked is None else list(looked.values)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.client.flushall()
    return shared


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server to be maltreated."""
    with redis_server(tmp_path / "redis") as server:
        yield server


async def test_what_is_stored_is_found_by_others(server: RedisServer) -> None:
    async with (
        RedisTier(RedisOptions(server.url, **PATIENT)) as one,
        RedisTier(RedisOptions(server.url, **PATIENT)) as other,
    ):
        await stored(one, (KEYS[0], b"zero"), (KEYS[2], b"two\0\xff"))
        assert await values(other, *KEYS[:3]) == [b"zero", None, b"two\0\xff"]
        looked = await other.lookup("another space", KEYS[:1])
        assert looked is not None
        assert list(looked.values) == [None]
        assert looked.cost_s > 0
    names = server.client.keys("*:*:*")
    assert sorted(names) == sorted([f"sluice:{SPACE}:{key.hex()}".encode() for key in (KEYS[0], KEYS[2])])


async def test_values_end_with_their_time(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"v"), ttl_s=100.0)
    (name,) = server.client.keys("*:*:*")
    assert 90_000 < server.client.pttl(name) <= 100_000


async def test_all_that_is_asked_in_one_turn_goes_out_as_one_mget(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        await stored(tier, *[(key, key) for key in KEYS])
        before = server.client.info("commandstats")["cmdstat_mget"]["calls"]
        found = await asyncio.gather(*[values(tier, KEYS[number % 5], KEYS[0]) for number in range(100)])
        assert found == [[KEYS[number % 5], KEYS[0]] for number in range(100)]
        assert server.client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1


async def test_a_caller_that_goes_disturbs_no_other(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"zero"), (KEYS[1], b"one"))
        for _ in range(20):
            gone = asyncio.ensure_future(values(tier, KEYS[0]))
            stays = asyncio.ensure_future(values(tier, KEYS[1]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gone.cancel()
            assert await stays == [b"one"]
            assert await values(tier, KEYS[0], KEYS[1]) == [b"zero", b"one"]


async def test_many_keys_go_out_in_bounded_pieces(server: RedisServer) -> None:
    keys = [number.to_bytes(16, "big") for number in range(1300)]
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        await stored(tier, *[(key, key) for key in keys])
        assert await values(tier, *keys) == keys


async def test_values_that_are_too_large_are_dropped(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, max_value_bytes=10, **PATIENT)) as tier:
        told = counts()
        tier.store(SPACE, KEYS[0], b"x" * 11, 60.0, told)
        assert (told.stores, told.dropped) == (0, 1)
        await stored(tier, (KEYS[1], b"x" * 10))


async def test_the_queue_of_writes_is_bounded(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, max_queue_bytes=5000, **PATIENT)) as tier:
        told = counts()
        for number in range(50):
            tier.store(SPACE, number.to_bytes(16, "big"), b"x" * 300, 60.0, told)
        state = tier.state()
        assert (state.queued_writes, state.queued_bytes) == (10, 5000)
        assert told.dropped == 40
        await until(lambda: told.stores == 10)


async def test_leaving_writes_what_is_still_to_be_written(server: RedisServer) -> None:
    told = counts()
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        for key in KEYS:
            tier.store(SPACE, key, b"v", 60.0, told)
    assert told.stores == len(server.client.keys("*:*:*")) == 5


async def test_forgetting_deletes_one_space_or_all_under_the_prefix(server: RedisServer) -> None:
    server.client.set("somebody:else", "x")
    server.client.set(f"sl*ice:{SPACE}:foreign", "x")
    async with RedisTier(RedisOptions(server.url, prefix="sl*ice:", **PATIENT)) as tier:
        await stored(tier, *[(key, b"v") for key in KEYS])
        tier.store("f" * 16, KEYS[0], b"v", 60.0, counts())
        await until(lambda: len(server.client.keys("*:*:*")) == 7)
        assert await tier.forget(SPACE) == 6
        assert await tier.forget(None) == 1
    assert server.client.keys("*:*:*") == []
    assert server.client.get("somebody:else") == b"x"


async def test_what_was_forgotten_does_not_come_back_from_the_queue(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(server.url, **PATIENT)) as tier:
        told = counts()
        for number in range(600):
            tier.store(SPACE, number.to_bytes(16, "big"), b"v", 60.0, told)
        await asyncio.sleep(0)
        await tier.forget(SPACE)
        tier.store("f" * 16, KEYS[0], b"v", 60.0, told)
        await until(lambda: told.stores + told.dropped == 601)
        assert await values(tier, *[number.to_bytes(16, "big") for number in range(600)]) == [None] * 600
    assert len(server.client.keys("*:*:*")) == 1


# Ways to a server.


async def test_a_unix_socket(server: RedisServer) -> None:
    async with RedisTier(RedisOptions(f"unix://{server.socket}", **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"v"))
        assert await values(tier, KEYS[0]) == [b"v"]


async def test_a_user_and_a_password(own: RedisServer) -> None:
    own.client.acl_setuser("gate", enabled=True, passwords=["+s3cret"], keys=["sluice:*"], commands=["+@all"])
    own.client.acl_setuser("default", enabled=False)
    address = f"127.0.0.1:{own.port}/0"
    async with RedisTier(RedisOptions(f"redis://gate:s3cret@{address}", **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"v"))
        assert await values(tier, KEYS[0]) == [b"v"]
    async with RedisTier(RedisOptions(f"redis://gate:wrong-s3cret@{address}")) as tier:
        assert not tier.readable
        state = tier.state()
        assert state.last_error == "it does not accept the user or the password"
        assert "s3cret" not in repr(state) + repr(tier._options)


@pytest.mark.skipif(not speaks_tls(), reason="this redis-server was built without TLS")
async def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    tls = ["--tls-port", "PORT", "--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    with redis_server(tmp_path / "plain") as other:
        port = other.port
        other.kill()
        tls[1] = str(port)
        with redis_server(tmp_path / "tls", *tls):
            url = f"rediss://localhost:{port}/0"
            async with RedisTier(RedisOptions(f"{url}?ssl_ca_certs={cert}", **PATIENT)) as tier:
                await stored(tier, (KEYS[0], b"v"))
                assert await values(tier, KEYS[0]) == [b"v"]
            async with RedisTier(RedisOptions(url, **PATIENT)) as tier:
                assert not tier.readable, "a certificate that nobody vouches for is not accepted"


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.mark.parametrize(
    "options",
    ["decode_responses=true", "protocol=3", "socket_timeout=1", "max_connections=1", "health_check_interval=1"],
)
async def test_options_in_the_address_do_not_change_what_is_relied_on(server: RedisServer, options: str) -> None:
    async with RedisTier(RedisOptions(f"{server.url}?{options}", **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"\xff\0"))
        assert await values(tier, KEYS[0], KEYS[1]) == [b"\xff\0", None]


@pytest.mark.parametrize(
    "url", ["http://h", "redis://h:port", "nonsense", "redis://h/0?db=x", "redis://h/0?colour=red"]
)
def test_a_wrong_address_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="the address of Redis") as told:
        check_url(url.replace("//", "//user:s3cret@"))
    assert "s3cret" not in str(told.value)


# Bad days.


async def test_a_server_that_is_not_there(own: RedisServer) -> None:
    own.kill()
    changes: list[tuple[str, str, str | None]] = []
    async with RedisTier(RedisOptions(own.url), on_change=lambda *change: changes.append(change)) as tier:
        assert not tier.readable
        assert await values(tier, KEYS[0]) is None
        told = counts()
        tier.store(SPACE, KEYS[0], b"v", 60.0, told)
        assert told.dropped == 1
        with pytest.raises(CacheUnavailable, match="cannot be reached"):
            await tier.forget(None)
        await until(lambda: len(changes) == 2)
        assert sorted(changes) == [(side, "open", "it cannot be reached") for side in ("reads", "writes")]
        own.start()
        await until(lambda: len(changes) == 4)
        assert tier.readable
        await stored(tier, (KEYS[0], b"v"))


async def test_a_server_that_is_killed_and_comes_back(own: RedisServer) -> None:
    async with RedisTier(RedisOptions(own.url, connect_timeout_s=1.0, timeout_s=1.0)) as tier:
        await stored(tier, (KEYS[0], b"v"))
        own.kill()
        assert await values(tier, KEYS[0]) is None
        assert not tier.readable
        own.start()
        await until(lambda: tier.readable)
        assert await values(tier, KEYS[0]) == [None]


@pytest.mark.parametrize("how", ["stopped", "paused"])
async def test_a_frozen_server_is_waited_for_once(own: RedisServer, how: str) -> None:
    async with RedisTier(RedisOptions(own.url, connect_timeout_s=0.2, timeout_s=0.2)) as tier:
        await stored(tier, (KEYS[0], b"v"))
        if how == "stopped":
            own.freeze()
        else:
            own.client.client_pause(60000)
        found = await asyncio.gather(*[values(tier, KEYS[0]) for _ in range(50)])
        assert found == [None] * 50
        assert not tier.readable
        assert tier.state().failures["read"] == 1
        assert tier.state().last_error == "it does not answer in time"
        if how == "stopped":
            own.thaw()
        else:
            own.kill()
            own.start()
        await until(lambda: tier.readable)
        assert await values(tier, KEYS[0]) == [b"v" if how == "stopped" else None]


async def test_a_full_server_still_answers(own: RedisServer) -> None:
    async with RedisTier(RedisOptions(own.url, **PATIENT)) as tier:
        await stored(tier, (KEYS[0], b"v"))
        own.client.config_set("maxmemory-policy", "noeviction")
        own.client.config_set("maxmemory", "1")
        told = counts()
        tier.store(SPACE, KEYS[1], b"w", 60.0, told)
        await until(lambda: told.dropped == 1)
        assert await values(tier, *KEYS[:2]) == [b"v", None]
        assert tier.readable
        state = tier.state()
        assert state.reads == "closed"
        assert state.last_error in ("it takes no writes", "it is full")
        own.client.config_set("maxmemory", "0")
        await until(lambda: tier.state().writes == "closed")
        await stored(tier, (KEYS[1], b"w"))


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def impostor(talk: Talk) -> AsyncIterator[str]:
    """A server of its own mind; its address."""
    talking: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def command(reader: asyncio.StreamReader) -> list[bytes]:
    """The next command that a client sends."""
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def answering(reply: Callable[[list[bytes]], bytes]) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            words = await command(reader)
            if words[0] == b"PING":
                writer.write(b"+PONG\r\n")
            elif words == PROBE:
                writer.write(b"*2\r\n$-1\r\n$-1\r\n")
            elif words[0] == b"SET":
                writer.write(b"+OK\r\n")
            else:
                writer.write(reply(words))
            await writer.drain()

    return talk


@pytest.mark.parametrize(
    "reply",
    [
        b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*0\r\n",
        b"*1\r\n:7\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"$1\r\na\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"-ERR nonsense\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\xff\xff\r\n",
        b"*-1\r\n",
        b"",
    ],
)
async def test_replies_that_make_no_sense(reply: bytes) -> None:
    quick: dict[str, Any] = {"timeout_s": 0.3, "connect_timeout_s": 2.0}
    async with impostor(answering(lambda _: reply)) as url, RedisTier(RedisOptions(url, **quick)) as tier:
        assert tier.readable
        assert await values(tier, KEYS[0]) is None
        assert tier.state().failures["read"] >= 1


async def test_a_reply_that_comes_too_late_is_nobody_elses() -> None:
    """The first lookup is answered after its time, with what would fit the second one."""
    late = asyncio.Event()
    lookups = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lookups
        while True:
            words = await command(reader)
            if words[0] == b"PING":
                writer.write(b"+PONG\r\n")
            elif words[0] == b"SET":
                writer.write(b"+OK\r\n")
            elif words == PROBE:
                writer.write(b"*2\r\n$-1\r\n$-1\r\n")
            else:
                lookups += 1
                if lookups == 1:
                    await late.wait()
                    writer.write(b"*1\r\n$5\r\nwrong\r\n")
                else:
                    writer.write(b"*1\r\n$5\r\nright\r\n")
            await writer.drain()

    async with impostor(talk) as url, RedisTier(RedisOptions(url, timeout_s=0.2, connect_timeout_s=2.0)) as tier:
        assert await values(tier, KEYS[0]) is None
        late.set()
        await until(lambda: tier.readable)
        for _ in range(10):
            assert await values(tier, KEYS[1]) == [b"right"]


async def test_a_server_that_never_stops_talking() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"+PONG\r\n" * 1000)
            await writer.drain()
            await asyncio.sleep(0)

    quick: dict[str, Any] = {"timeout_s": 0.1, "connect_timeout_s": 0.3}
    async with asyncio.timeout(30), impostor(talk) as url, RedisTier(RedisOptions(url, **quick)) as tier:
        assert await values(tier, KEYS[0]) is None


# Leases.


async def test_one_of_two_gateways_computes(server: RedisServer) -> None:
    options = RedisOptions(server.url, lease_s=20.0, **PATIENT)
    async with RedisTier(options) as one, RedisTier(options) as other:
        assert await one.claim(SPACE, KEYS[:2]) == [True, True]
        assert await other.claim(SPACE, KEYS[1:3]) == [False, True]
        waiting = asyncio.ensure_future(other.awaited(SPACE, KEYS[1:2]))
        await stored(one, (KEYS[1], b"v"))
        assert list(await waiting) == [b"v"]


async def test_a_lease_that_is_given_back_keeps_nobody(server: RedisServer) -> None:
    options = RedisOptions(server.url, lease_s=60.0, **PATIENT)
    async with RedisTier(options) as one, RedisTier(options) as other:
        await one.claim(SPACE, KEYS[:1])
        assert await other.claim(SPACE, KEYS[:1]) == [False]
        waiting = asyncio.ensure_future(other.awaited(SPACE, KEYS[:1]))
        other.release(SPACE, KEYS[:1])
        await asyncio.sleep(0)
        one.release(SPACE, KEYS[:1])
        async with asyncio.timeout(30):
            assert list(await waiting) == [None]
        assert await other.claim(SPACE, KEYS[:1]) == [True]


async def test_nobody_gives_back_what_others_hold(server: RedisServer) -> None:
    options = RedisOptions(server.url, lease_s=60.0, **PATIENT)
    async with RedisTier(options) as one, RedisTier(options) as other:
        await one.claim(SPACE, KEYS[:1])
        other.release(SPACE, KEYS[:1])
        await until(lambda: not other._chores)
        assert await other.claim(SPACE, KEYS[:1]) == [False]


async def test_the_lease_of_a_gateway_that_died_ends(server: RedisServer) -> None:
    options = RedisOptions(server.url, lease_s=0.3, **PATIENT)
    async with RedisTier(options) as one, RedisTier(options) as other:
        await one.claim(SPACE, KEYS[:1])
        async with asyncio.timeout(30):
            assert list(await other.awaited(SPACE, KEYS[:1])) == [None]


async def test_without_redis_everybody_computes(own: RedisServer) -> None:
    async with RedisTier(RedisOptions(own.url, lease_s=60.0, timeout_s=0.2, connect_timeout_s=0.2)) as tier:
        own.freeze()
        async with asyncio.timeout(30):
            assert await tier.claim(SPACE, KEYS[:2]) == [True, True]
            assert list(await tier.awaited(SPACE, KEYS[:1])) == [None]
