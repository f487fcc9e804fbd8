"""The composition root: one `Gateway` from settings and a model repository, as an ASGI application and as a server."""

from __future__ import annotations

import gc
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version as distribution_version
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from gateway.dialects.base import Dialect
from gateway.dialects.v2 import V2
from gateway.http.asgi import AsgiLane
from gateway.http.lane import make_lane
from gateway.http.limits import LaneLimits
from gateway.http.request_ids import RequestIdMiddleware, RequestIds
from gateway.plane import Plane
from gateway.routes import model_routes, server_routes
from gateway.serving import Catalogue
from gateway.settings import Settings
from gateway.shutdown import Drain, DrainingServer
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics
from inference.errors import SluiceError
from inference.repository import ModelVersion

VERSION = distribution_version("sluice")
DIALECTS: Sequence[Dialect] = (V2(),)


class Gateway:
    """Everything that one process needs to serve. An async context manager: entered, its models are warm.

    `app` is the whole gateway as an ASGI application for any server; entering happens in its lifespan there.
    `serve` runs it in uvicorn with predictions taken straight from the protocol, which is several times faster.
    """

    def __init__(self, settings: Settings, models: Sequence[ModelVersion]) -> None:
        self.settings = settings
        self.drain = Drain()
        self.metrics = Metrics(VERSION)
        self.catalogue = Catalogue(models, settings, self.metrics)
        request_ids = RequestIds()
        self.plane = Plane(
            self.catalogue,
            DIALECTS,
            self.metrics,
            request_ids,
            max_body_bytes=settings.server.max_body_bytes,
            successes_logged_per_s=settings.logs.successes_per_s,
            refusals_logged_per_s=settings.logs.refusals_per_s,
        )
        self.app = AsgiLane(self.plane, RequestIdMiddleware(self._fastapi(), request_ids))

    async def __aenter__(self) -> Gateway:
        await self.catalogue.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.drain.begin()
        await self.catalogue.__aexit__(*exc_info)

    async def serve(self, listener: socket.socket, on_started: Callable[[], None]) -> None:
        """Serve on a bound socket until SIGTERM or SIGINT, then finish what is in flight.

        `on_started` is called once connections are accepted.
        """
        server = self.settings.server
        config = uvicorn.Config(
            self.app,
            http=make_lane(
                self.plane,
                LaneLimits(
                    max_header_bytes=server.max_header_bytes,
                    max_connections=server.max_connections,
                    request_read_timeout_s=server.read_timeout_s,
                    write_timeout_s=server.write_timeout_s,
                ),
                draining=lambda: self.drain.begun,
            ),
            loop="uvloop",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[("server", "sluice")],
            backlog=2048,
            timeout_keep_alive=server.keep_alive_timeout_s,  # type: ignore[arg-type]  # any number of seconds will do
            timeout_graceful_shutdown=server.shutdown_timeout_s,  # type: ignore[arg-type]
            ssl_certfile=server.tls_cert,
            ssl_keyfile=server.tls_key,
            ssl_ca_certs=None if server.tls_client_ca is None else str(server.tls_client_ca),
            ssl_cert_reqs=ssl.CERT_NONE if server.tls_client_ca is None else ssl.CERT_REQUIRED,
        )
        await DrainingServer(config, self.drain, server.shutdown_delay_s, on_started).serve(sockets=[listener])

    def _fastapi(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with self:
                yield

        app = FastAPI(title="Sluice", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
        app.include_router(server_routes(self.catalogue, self.drain, self.metrics, VERSION))
        app.include_router(model_routes(self.catalogue))
        _add_docs(app, DIALECTS)
        _add_error_bodies(app)
        return app


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket, so that a taken port is known before any model is loaded. Raises `OSError`."""
    family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _add_docs(app: FastAPI, dialects: Sequence[Dialect]) -> None:
    """`/docs` from files that come with a package, since a server room may have no way to a content network."""
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="Sluice",
            swagger_js_url=f"{root}/docs/static/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/static/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/static/favicon-32x32.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
        )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for dialect in dialects:
                schema["paths"] = dialect.openapi_paths() | schema["paths"]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_error_bodies(app: FastAPI) -> None:
    """Every error of FastAPI's routes in the body that the prediction routes use."""

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, SluiceError)
        refused = DIALECTS[0].refuse(error)
        return Response(refused.body, refused.status, {k.decode(): v.decode() for k, v in refused.headers})

    def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return JSONResponse({"error": faults}, 400)

    def unknown(_: Request, error: Exception) -> Response:
        log.error("a management route failed", exc_info=error)
        return JSONResponse({"error": "internal error"}, 500)

    app.add_exception_handler(SluiceError, refuse)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unknown)


async def run(gateway: Gateway, listener: socket.socket, on_started: Callable[[], None]) -> None:
    """Load the models, serve, and leave in order. Raises `ModelLoadError` before anything is served."""
    async with gateway:
        # What was made so far lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        await gateway.serve(listener, on_started)
