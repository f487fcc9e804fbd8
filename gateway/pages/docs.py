"""The pages about the pages: `/docs`, and `/openapi.json`.

`/docs` is made of files that come with a package, since the gateway may have no way to a content network. Its links are
relative, so that they lead to the right place under whatever prefix a proxy serves the gateway.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from sluice.gateway.headers.forwarded_prefix import FORWARDED_PREFIX

STATIC_PATH = "/docs/static"

router = APIRouter(include_in_schema=False)


def static_files() -> StaticFiles:
    """The scripts and styles of `/docs`, to be mounted at `STATIC_PATH`."""
    return StaticFiles(packages=[("fastapi_swagger", "resources")])


@router.get("/docs")
async def docs() -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Sluice",
        swagger_js_url="docs/static/swagger-ui-bundle.js",
        swagger_css_url="docs/static/swagger-ui.css",
        swagger_favicon_url="docs/static/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )


@router.get("/docs/")
async def docs_without_slash() -> RedirectResponse:
    return RedirectResponse("../docs")


@router.get("/openapi.json")
async def document(request: Request) -> JSONResponse:
    app, prefix = request.app, request.scope.get("root_path", "").rstrip("/")
    # The document is made once. That takes a tenth of a second, in which the event loop must not stand still.
    whole = app.openapi_schema or await asyncio.to_thread(app.openapi)
    schema = whole | ({"servers": [{"url": prefix}]} if prefix else {})
    return JSONResponse(schema, headers={"vary": FORWARDED_PREFIX.decode()})
