from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from sluice.gateway.pages import torchserve_models
from sluice.gateway.pages.app import ROUTERS, PagesApplication
from sluice.gateway.protocols import DIALECTS

ROUTES = [route for router in (*ROUTERS, torchserve_models.router) for route in router.routes]


def called(dependant: Dependant) -> Iterator[Any]:
    """The route and everything that it depends on."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from called(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{'/'.join(route.methods)} {route.path}")
def test_no_route_goes_through_a_thread_and_every_route_has_a_response_model(route: APIRoute) -> None:
    assert all(inspect.iscoroutinefunction(each) for each in called(route.dependant))
    assert route.response_model is not None or not route.include_in_schema or route.path == "/metrics"


@pytest.fixture(scope="module")
def app() -> PagesApplication:
    app = PagesApplication(DIALECTS, title="Sluice", version="1")
    for router in ROUTERS:
        app.include_router(router)
    return app


def test_the_document_is_made_once_and_has_the_predictions_before_the_pages(app: PagesApplication) -> None:
    document = app.openapi()
    assert app.openapi() is document
    paths = list(document["paths"])
    assert paths.index("/v2/models/{model}/infer") < paths.index("/v2/health/ready")
    for dialect in DIALECTS:
        assert dialect.openapi_paths().items() <= document["paths"].items()


def test_the_document_has_no_status_that_is_never_answered(app: PagesApplication) -> None:
    document = app.openapi()
    assert not any("422" in page["responses"] for path in document["paths"].values() for page in path.values())
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["required"] == ["error"]
