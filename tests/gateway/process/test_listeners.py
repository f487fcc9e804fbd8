from __future__ import annotations

import re
import socket

import pytest

from sluice.gateway.process.listeners import open_listeners
from sluice.gateway.settings.sections import ServerSettings
from sluice.inference.errors import StartError


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_each_port_of_the_settings_is_bound_until_the_block_ends() -> None:
    settings = ServerSettings(port=0, grpc_port=free_port(), management_port=free_port())
    with open_listeners(settings) as listeners:
        assert listeners.grpc is not None
        assert listeners.management is not None
        assert listeners.http.getsockname()[1] > 0
        assert listeners.grpc.getsockname() == ("127.0.0.1", settings.grpc_port)
        assert listeners.management.getsockname() == ("127.0.0.1", settings.management_port)
    assert [each.fileno() for each in (listeners.http, listeners.grpc, listeners.management)] == [-1, -1, -1]


def test_a_port_that_is_turned_off_has_no_socket() -> None:
    with open_listeners(ServerSettings(port=0, grpc_port=0)) as listeners:
        assert (listeners.grpc, listeners.management) == (None, None)


def test_an_address_of_ipv6_is_bound() -> None:
    with open_listeners(ServerSettings(host="::1", port=0, grpc_port=0)) as listeners:
        assert listeners.http.getsockname()[0] == "::1"


@pytest.mark.parametrize(
    ("key", "purpose", "advice"),
    [
        ("port", "HTTP", "another port with --port (server.port)"),
        ("grpc_port", "gRPC", "another port with --grpc-port (server.grpc_port), or 0 to turn gRPC off"),
        (
            "management_port",
            "the management API",
            "another port with --management-port (server.management_port), or 0 to turn it off",
        ),
    ],
)
def test_a_taken_port_is_refused_with_the_setting_that_chooses_another(key: str, purpose: str, advice: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = ServerSettings(**{"port": 0, "grpc_port": 0, key: port})
        with pytest.raises(StartError) as caught, open_listeners(settings):
            pass
    assert (
        str(caught.value) == f"cannot listen on 127.0.0.1:{port} for {purpose}: Address already in use; choose {advice}"
    )


@pytest.mark.parametrize(
    ("key", "named"),
    [("host", "--host (server.host)"), ("management_host", "--management-host (server.management_host)")],
)
def test_a_host_that_is_not_ours_is_refused_with_the_setting_that_chooses_another(key: str, named: str) -> None:
    settings = ServerSettings(**{"port": 0, "grpc_port": 0, "management_port": free_port(), key: "203.0.113.1"})
    told = f"Cannot assign requested address; choose another host with {named}"
    with pytest.raises(StartError, match=re.escape(told) + "$"), open_listeners(settings):
        pass
