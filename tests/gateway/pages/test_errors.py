from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from sluice.gateway.messages import HttpResponse
from sluice.gateway.pages.errors import ErrorFormat, add_exception_handlers, problem_body
from sluice.inference.errors import ModelNotFound, SluiceError


def refuse(error: SluiceError) -> HttpResponse:
    return HttpResponse(418, str(error).encode(), ((b"content-type", b"text/plain"), (b"retry-after", b"7")))


async def answer_to(path: str, page: Callable[..., Awaitable[Any]]) -> httpx.Response:
    """What a page answers at `/pages/{number}`."""
    app = FastAPI()
    add_exception_handlers(app, ErrorFormat(refuse, problem_body))
    app.get("/pages/{number}", response_model=None)(page)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get(path)


async def test_an_error_of_the_gateway_is_answered_as_the_dialect_does() -> None:
    async def page(number: int) -> None:
        raise ModelNotFound("no such model")

    answer = await answer_to("/pages/1", page)
    assert (answer.status_code, answer.text) == (418, "no such model")
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/plain", "7")


async def test_an_error_of_http_keeps_its_status_and_headers() -> None:
    async def page(number: int) -> None:
        raise HTTPException(405, "not so", {"allow": "PUT"})

    answer = await answer_to("/pages/1", page)
    assert (answer.status_code, answer.json(), answer.headers["allow"]) == (405, {"error": "not so"}, "PUT")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("path", "status"), [("/pages/x", 404), ("/pages/1?limit=x", 400), ("/pages/x?limit=x", 400)])
async def test_what_does_not_fit_is_a_404_in_the_path_alone_and_else_a_400(path: str, status: int) -> None:
    async def page(number: int, limit: Annotated[int, Query()] = 0) -> None:
        return None

    answer = await answer_to(path, page)
    assert answer.status_code == status
    assert "Input should be a valid integer" in answer.json()["error"]


async def test_a_page_that_fails_tells_the_log_why_and_not_its_caller() -> None:
    async def page(number: int) -> None:
        raise ZeroDivisionError("a secret")

    with capture_logs() as logged:
        answer = await answer_to("/pages/1", page)
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert [repr(line["exc_info"]) for line in logged] == ["ZeroDivisionError('a secret')"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_body_is_compact_json(message: str) -> None:
    plain = json.dumps({"error": message}, ensure_ascii=False, separators=(",", ":"))
    assert problem_body(400, message) == plain.encode()
