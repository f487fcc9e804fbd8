from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served


@dataclass(frozen=True)
class Way:
    """One way for a request to reach the plane. `uvicorn` is what the other two are compared with."""

    name: str
    served: Served
    plane: PuppetPlane

    def client(self) -> Client:
        return Client(self.served.address)


def _served(name: str, plane: PuppetPlane) -> Served:
    app = PuppetApp(plane)
    if name == "uvicorn":
        return Served(app, http="httptools")
    return Served(AsgiLane(plane, app), http=make_lane(plane) if name == "lane" else "httptools")


@pytest.fixture(scope="session", params=["lane", "asgi", "uvicorn"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    plane = PuppetPlane()
    with _served(request.param, plane) as served:
        yield Way(request.param, served, plane)


@pytest.fixture(scope="session", params=["lane", "asgi"])
def own_way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """The two ways that are ours."""
    plane = PuppetPlane()
    with _served(request.param, plane) as served:
        yield Way(request.param, served, plane)


@pytest.fixture(scope="session")
def lane() -> Iterator[Way]:
    plane = PuppetPlane()
    with _served("lane", plane) as served:
        yield Way("lane", served, plane)
