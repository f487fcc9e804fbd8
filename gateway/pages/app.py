"""The FastAPI application: every page of the gateway. Predictions never come here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from sluice.gateway.dialects.base import Dialect
from sluice.gateway.pages import (
    admin,
    docs,
    log_and_trace_settings,
    metrics,
    openai,
    ping,
    repository,
    shared_memory,
    tfs,
    v2_models,
    v2_server,
)
from sluice.gateway.pages.dependencies import set_parts
from sluice.gateway.pages.errors import ErrorFormat, add_exception_handlers, problem_body
from sluice.gateway.pages.parts import PageParts

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""Makes the context manager that is entered when an application starts and left when it ends."""

ROUTERS: Sequence[APIRouter] = (
    v2_server.router,
    metrics.router,
    v2_models.router,
    repository.router,
    tfs.router,
    log_and_trace_settings.router,
    shared_memory.system,
    shared_memory.cuda,
    openai.router,
    ping.router,
    admin.router,
    docs.router,
)
"""Routes are matched, and stand in the OpenAPI document, in this order."""


def pages_app(parts: PageParts, dialects: Sequence[Dialect], lifespan: Lifespan) -> FastAPI:
    """FastAPI with every page of the gateway. Its errors are those of the first dialect."""
    app = PagesApplication(
        dialects,
        title="Sluice",
        version=parts.version,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
    )
    set_parts(app, parts)
    add_exception_handlers(app, ErrorFormat(dialects[0].refuse, problem_body))
    for router in ROUTERS:
        app.include_router(router)
    app.mount(docs.STATIC_PATH, docs.static_files(), name="docs-static")
    return app


class PagesApplication(FastAPI):
    """FastAPI whose OpenAPI document has the predictions of all dialects in front of the pages."""

    def __init__(self, dialects: Sequence[Dialect], **options: Any) -> None:
        super().__init__(**options)
        self._dialects = dialects

    def openapi(self) -> dict[str, Any]:
        """The document. It is made once, which takes a tenth of a second."""
        if self.openapi_schema is None:
            schema = get_openapi(title=self.title, version=self.version, routes=self.routes)
            _tell_real_errors(schema)
            for dialect in self._dialects:
                schema["paths"] = dialect.openapi_paths() | schema["paths"]
            self.openapi_schema = schema
        return self.openapi_schema


def _tell_real_errors(schema: dict[str, Any]) -> None:
    """Remove FastAPI's status 422: `errors.py` answers 404 or 400 instead."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema.get("components", {}).get("schemas", {}).pop(name, None)
