"""The same through TLS, which is uvicorn's and the transport's affair."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import MAX_BODY_BYTES, PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, request

pytestmark = pytest.mark.timeout(60)


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


@pytest.fixture(scope="module")
def plane() -> PuppetPlane:
    return PuppetPlane()


@pytest.fixture(scope="module")
def served(certificate: tuple[Path, Path], plane: PuppetPlane) -> Iterator[Served]:
    app, lane = AsgiLane(plane, PuppetApp(plane)), make_lane(plane, ConnectionLimits(linger_s=0.2))
    with Served(app, http=lane, ssl_certfile=certificate[0], ssl_keyfile=certificate[1]) as server:
        yield server


def test_a_pipeline(served: Served, context: ssl.SSLContext) -> None:
    with Client(served.address, context) as client:
        client.send(*(request(("/v2/echo", "/app/echo")[i % 2], b"%d" % i) for i in range(20)))
        assert [client.answer().body for _ in range(20)] == [b"%d" % i for i in range(20)]
        assert client.is_open()


def test_large_bodies_both_ways(served: Served, context: ssl.SSLContext) -> None:
    body = b"x" * MAX_BODY_BYTES
    with Client(served.address, context) as client:
        client.send(request("/v2/echo", body), request("/v2/large/3000000"))
        assert client.answer().body == body
        assert len(client.answer().body) == 3_000_000


def test_a_refusal_is_heard(served: Served, context: ssl.SSLContext) -> None:
    with Client(served.address, context) as client:
        client.send_what_is_taken([request("/v2/echo", b"x" * (MAX_BODY_BYTES + 1))])
        assert client.answer().status == 413


def test_a_client_that_goes_cancels_its_answer(served: Served, context: ssl.SSLContext, plane: PuppetPlane) -> None:
    with Client(served.address, context) as client:
        client.send(request("/v2/wait/tls"))
        assert plane.gate("tls").began.wait(10)
    assert plane.gate("tls").cancelled.wait(10)


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_an_answer_that_is_not_read_counts_until_it_is(
    served: Served, context: ssl.SSLContext, plane: PuppetPlane, prefix: str
) -> None:
    """Also where TLS says that nothing waits."""
    protocol: Any = served.server.config.http_protocol_class
    door = protocol.context
    with Client(served.address, context, receive_buffer_bytes=4096) as client:
        client.send(request(f"{prefix}/large/10000000"))
        served.until(lambda: door.held.now_bytes >= 10_000_000)
        connection = served.connection_of(client)
        assert served.ask(lambda: connection.connection.life.unsent_bytes) > 0
        assert len(client.answer().body) == 10_000_000
        served.until(lambda: door.held.now_bytes == 0)
        assert client.is_open()


def test_a_client_that_never_reads_is_cut_off(certificate: tuple[Path, Path], context: ssl.SSLContext) -> None:
    plane = PuppetPlane()
    lane = make_lane(plane, ConnectionLimits(write_timeout_s=0.25))
    app = AsgiLane(plane, PuppetApp(plane))
    with Served(app, http=lane, ssl_certfile=certificate[0], ssl_keyfile=certificate[1]) as server:
        with Client(server.address, context, receive_buffer_bytes=4096) as client:
            client.send(request("/v2/large/20000000"))
            client.begun()
            server.until_connections(0)
        assert lane.context.held.now_bytes == 0
