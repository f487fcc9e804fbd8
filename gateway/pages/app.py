"""The FastAPI application: management pages, API pages and metrics. Predictions never come here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from sluice.gateway.dialects.base import Dialect
from sluice.gateway.headers.forwarded_prefix import FORWARDED_PREFIX
from sluice.gateway.pages.admin import admin_routes
from sluice.gateway.pages.observing import observing_routes
from sluice.gateway.pages.openai import openai_routes
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.pages.repository import repository_routes
from sluice.gateway.pages.shared_memory import shared_memory_routes
from sluice.gateway.pages.tfs import tfs_routes
from sluice.gateway.pages.torchserve import ping_routes
from sluice.gateway.pages.v2 import model_routes, server_routes
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import SluiceError

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""What makes the context manager that surrounds the life of an application."""


def pages_app(parts: PageParts, dialects: Sequence[Dialect], lifespan: Lifespan) -> FastAPI:
    """FastAPI with every page of the gateway. Its errors are in the words of the first dialect."""
    app = FastAPI(
        title="Sluice",
        version=parts.version,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
    )
    catalogue, readiness, control = parts.catalogue, parts.readiness, parts.control
    app.include_router(
        server_routes(catalogue, readiness, parts.metrics, parts.cache, parts.version, list(parts.extensions))
    )
    app.include_router(model_routes(catalogue))
    app.include_router(repository_routes(control))
    app.include_router(tfs_routes(catalogue))
    app.include_router(observing_routes(catalogue, parts.tracing, model_control=control.allowed))
    app.include_router(shared_memory_routes())
    app.include_router(openai_routes(catalogue))
    app.include_router(ping_routes(readiness))
    app.include_router(admin_routes(parts.cache, catalogue))
    _add_docs(app, dialects)
    _add_error_bodies(app, dialects[0])
    return app


def _add_docs(app: FastAPI, dialects: Sequence[Dialect]) -> None:
    """`/docs` from files that come with a package, since a server room may have no way to a content network.

    Its links are relative, so that it finds them under whatever prefix a proxy serves us.
    """
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Sluice",
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon-32x32.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
        )

    @app.get("/docs/", include_in_schema=False)
    async def docs_without_slash() -> RedirectResponse:
        return RedirectResponse("../docs")

    @app.get("/openapi.json", include_in_schema=False)
    async def document(request: Request) -> JSONResponse:
        prefix = request.scope.get("root_path", "").rstrip("/")
        # Made once, which takes a tenth of a second: not one in which everybody else waits.
        whole = app.openapi_schema
        if whole is None:
            whole = await asyncio.to_thread(app.openapi)
        schema = whole | ({"servers": [{"url": prefix}]} if prefix else {})
        return JSONResponse(schema, headers={"vary": FORWARDED_PREFIX.decode()})

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _tell_real_errors(schema)
            for dialect in dialects:
                schema["paths"] = dialect.openapi_paths() | schema["paths"]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _tell_real_errors(schema: dict[str, Any]) -> None:
    """Take out FastAPI's own 422: a path that does not fit is a 404 with the protocol's error body."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema.get("components", {}).get("schemas", {}).pop(name, None)


def _add_error_bodies(app: FastAPI, error_dialect: Dialect) -> None:
    """Every error of FastAPI's routes in the body that the prediction routes use."""

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, SluiceError)
        refused = error_dialect.refuse(error)
        return Response(refused.body, refused.status, {k.decode(): v.decode() for k, v in refused.headers})

    def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        misplaced = all(fault["loc"][0] == "path" for fault in error.errors())
        return JSONResponse({"error": faults}, 404 if misplaced else 400)

    def unknown(_: Request, error: Exception) -> Response:
        log.error("a management route failed", exc_info=error)
        return JSONResponse({"error": "internal error"}, 500)

    app.add_exception_handler(SluiceError, refuse)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unknown)
