"""A route that reads JSON whatever the content type says, as predictions do: `curl -d` announces a form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

_CONTENT_TYPE = b"content-type"


class AnyContentType(APIRoute):
    """A route whose body is JSON. Give it to a router as its `route_class`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, which sees every body announced as JSON."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            kept = [header for header in request.scope["headers"] if header[0] != _CONTENT_TYPE]
            headers = [*kept, (_CONTENT_TYPE, b"application/json")]
            return await handle(Request({**request.scope, "headers": headers}, request.receive))

        return handle_json
