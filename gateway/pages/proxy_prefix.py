"""The prefix of a proxy that serves the gateway under one, and removes it from the path before it passes a request on.

A request for `https://host/ml/sluice/docs` then arrives as `/docs`, but paths in the answer must begin with
`/ml/sluice`. Only redirects and `servers` in the OpenAPI document contain such paths.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from sluice.gateway.headers.forwarded_prefix import forwarded_prefix


class ProxyPrefix:
    """Puts the proxy's prefix before the paths of an ASGI application, as its `root_path`.

    The prefix is that of the settings; if they have none, that of the server that runs the application; if it has none,
    that of the header `X-Forwarded-Prefix`. Any client can send this header, so it must do no harm: it changes only the
    answer to its sender, and can only lead to another path on the same host.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            known = scope.get("root_path", "")
            prefix = self._root_path or known or forwarded_prefix(scope["headers"])
            if prefix != known:
                path = prefix + scope["path"].removeprefix(known)
                raw_path = prefix.encode() + scope.get("raw_path", b"").removeprefix(known.encode())
                scope = {**scope, "root_path": prefix, "path": path, "raw_path": raw_path}
        await self._app(scope, receive, send)
