"""The whole gateway as one ASGI application, for its own server and for any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluice.gateway.assembly import VERSION, Gateway
from sluice.gateway.dialects.v2.extensions import rest_extensions
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.pages.asgi_app import asgi_app
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.protocols import DIALECTS


def application(gateway: Gateway) -> AsgiLane:
    """Predictions and pages. Its lifespan enters the gateway and leaves it.

    A server that runs no lifespan has to be given a gateway that is entered already.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with gateway:
            yield

    server = gateway.settings.server
    return asgi_app(
        gateway.plane,
        page_parts(gateway),
        DIALECTS,
        lifespan=lifespan,
        held=gateway.held,
        request_ids=gateway.request_ids,
        root_path=server.root_path,
        max_body_bytes=server.max_body_bytes,
    )


def page_parts(gateway: Gateway) -> PageParts:
    """The parts of the gateway that pages show and change."""
    return PageParts(
        catalogue=gateway.catalogue,
        readiness=gateway.readiness,
        control=gateway.control,
        cache=gateway.cache,
        metrics=gateway.metrics,
        tracing=gateway.settings.tracing,
        models_path=gateway.settings.models.path,
        version=VERSION,
        extensions=rest_extensions(repository=gateway.control.allowed),
    )
