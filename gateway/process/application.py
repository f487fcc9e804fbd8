"""The whole gateway as one ASGI application, for its own server and for any other."""

from __future__ import annotations

from sluice.gateway.assembly import VERSION, Gateway
from sluice.gateway.headers.request_ids import RequestIdMiddleware
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.pages.app import management_app
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.middleware import TrailingSlash
from sluice.gateway.pages.page_bodies import MAX_PAGE_BYTES, PageBodies
from sluice.gateway.pages.proxy_prefix import ProxyPrefix
from sluice.gateway.protocols import DIALECTS


def application(gateway: Gateway) -> AsgiLane:
    """Predictions and pages. Its lifespan enters the gateway and leaves it; without a lifespan, enter it beforehand."""
    prefixed = ProxyPrefix(management_app(gateway, DIALECTS, VERSION), gateway.settings.server.root_path)
    pages = PageBodies(
        HeadAsGet(TrailingSlash(prefixed, "/v2/")),
        gateway.held,
        DIALECTS[0].refuse,
        max_bytes=min(MAX_PAGE_BYTES, gateway.settings.server.max_body_bytes),
    )
    return AsgiLane(gateway.plane, RequestIdMiddleware(pages, gateway.request_ids))
