"""Errors of pages: their form in the OpenAPI document, and the exception handlers of the FastAPI applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sluice.gateway.messages import HttpResponse
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import SluiceError

Responses: TypeAlias = dict[int | str, dict[str, Any]]
"""What FastAPI takes as `responses` of a route: descriptions for the OpenAPI document, by status."""


class Problem(BaseModel):
    """An error, in the protocol's form."""

    error: str


class ErrorFormat(NamedTuple):
    """How an application answers errors."""

    refuse: Callable[[SluiceError], HttpResponse]
    """Makes the answer to an error of the gateway."""
    body: Callable[[int, str], bytes]
    """Makes the body, in JSON, of any other error from its status and message."""


def problem(status: int, description: str) -> Responses:
    """The description of an error of a route for the OpenAPI document."""
    return {status: {"model": Problem, "description": description}}


def problem_body(_: int, message: str) -> bytes:
    """The body of an error in the form of the Open Inference Protocol, in which the status does not appear."""
    return Problem(error=message).model_dump_json().encode()


def add_exception_handlers(app: FastAPI, error_format: ErrorFormat) -> None:
    """Make an application answer every error in one format.

    A request with an invalid parameter is answered 404 if only parameters in its path are invalid, and 400 otherwise.
    """
    app.state.error_format = error_format
    app.add_exception_handler(SluiceError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)


def error_response(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the format of the application that serves the request."""
    error_format: ErrorFormat = request.app.state.error_format
    return Response(error_format.body(status, message), status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SluiceError)
    error_format: ErrorFormat = request.app.state.error_format
    refused = error_format.refuse(error)
    return Response(refused.body, refused.status, {name.decode(): value.decode() for name, value in refused.headers})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(request, error.status_code, str(error.detail), dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    misplaced = all(fault["loc"][0] == "path" for fault in error.errors())
    return error_response(request, 404 if misplaced else 400, faults)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a page failed", exc_info=error)
    return error_response(request, 500, "internal error")
