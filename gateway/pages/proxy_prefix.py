"""Behind a proxy that serves us under a prefix, and takes it off the path before it passes a call on.

Who asks for `https://host/ml/sluice/docs` is then answered as for `/docs`, and must still be told of paths that begin
with `/ml/sluice`. Only what names a path of ours needs to know it: redirects, and `servers` in the OpenAPI document.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from sluice.gateway.headers.forwarded_prefix import forwarded_prefix


class ProxyPrefix:
    """Puts the proxy's prefix before the paths of an ASGI application, as its `root_path`.

    That is the one of the settings; if they have none, the one of the server that runs the application; if that has
    none, what `X-Forwarded-Prefix` says. Anybody can send that header, and so it does no harm: it changes nothing but
    what its sender is told, and only to another path on the same host.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        if scope["type"] == "http":
            known = scope.get("root_path", "")
            prefix = self._root_path or known or forwarded_prefix(scope["headers"])
            if prefix != known:
                path = prefix + scope["path"].removeprefix(known)
                raw_path = prefix.encode() + scope.get("raw_path", b"").removeprefix(known.encode())
                scope = {**scope, "root_path": prefix, "path": path, "raw_path": raw_path}
        await self._app(scope, receive, send)
