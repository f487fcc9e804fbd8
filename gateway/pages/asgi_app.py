"""The whole gateway as one ASGI application: predictions to the data plane, everything else to the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.dialects.base import Dialect
from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.messages import DataPlane
from sluice.gateway.pages.app import Lifespan, pages_app
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.middleware import RequestIdMiddleware, TrailingSlash
from sluice.gateway.pages.page_bodies import MAX_PAGE_BYTES, PageBodies
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.pages.proxy_prefix import ProxyPrefix


def asgi_app(
    plane: DataPlane[Any],
    parts: PageParts,
    dialects: Sequence[Dialect],
    *,
    lifespan: Lifespan,
    held: HeldBytes,
    request_ids: RequestIds,
    root_path: str,
    max_body_bytes: int,
) -> AsgiLane:
    """The application for any ASGI server. `lifespan` is entered when it starts, and left when it ends.

    Errors of the pages are those of the first dialect. The body of a request for a page may have `MAX_PAGE_BYTES`, or
    `max_body_bytes` where that is less. `root_path` is the prefix that a proxy removes from paths, or empty.
    """
    prefixed = ProxyPrefix(pages_app(parts, dialects, lifespan), root_path)
    pages = PageBodies(
        HeadAsGet(TrailingSlash(prefixed, "/v2/")),
        held,
        dialects[0].refuse,
        max_bytes=min(MAX_PAGE_BYTES, max_body_bytes),
    )
    return AsgiLane(plane, RequestIdMiddleware(pages, request_ids))
