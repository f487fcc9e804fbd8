"""Small ASGI middleware around the pages: request ids, and paths that end with a slash."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.gateway.headers.request_ids import REQUEST_ID, RequestIds


class RequestIdMiddleware:
    """Puts the request's id on every answer of an ASGI application."""

    def __init__(self, app: ASGIApp, request_ids: RequestIds) -> None:
        self._app = app
        self._request_ids = request_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_ids.of(scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)


class TrailingSlash:
    """Takes one slash off the end of paths under a prefix: clients write `/v2/models/` for `/v2/models`, too."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        own = path.removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and own.startswith(self._prefix) and own.endswith("/"):
            scope = {**scope, "path": path[:-1], "raw_path": scope.get("raw_path", b"").removesuffix(b"/")}
        await self._app(scope, receive, send)
