"""`/v2/models/` is `/v2/models`: clients of the Open Inference Protocol write both."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlash:
    """Takes one slash off the end of paths under a prefix, for an ASGI application that does not have them."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        path = scope.get("path", "")
        own = path.removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and own.startswith(self._prefix) and own.endswith("/"):
            scope = {**scope, "path": path[:-1], "raw_path": scope.get("raw_path", b"").removesuffix(b"/")}
        await self._app(scope, receive, send)
