"""Pages that show what is logged and traced, and change the log's level: `/v2/logging` and `/v2/trace/setting`.

They follow Triton Inference Server's logging and trace extensions (`extension_logging.md` and `extension_trace.md` of
its protocol) and have the same names. Clients may change the log's level where `server.model_control` is on. Traces are
the same for all models, and are fixed when the gateway starts. A request for what is in force already is always
accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from sluice.gateway.pages.any_content_type import AnyContentType
from sluice.gateway.pages.dependencies import CatalogueDependency, ControlDependency, TracingDependency
from sluice.gateway.pages.parameters import ModelName
from sluice.gateway.settings.sections import TracingSettings
from sluice.gateway.telemetry.logs import Level, level, set_level
from sluice.inference.errors import Forbidden, InvalidRequest

TraceChange: TypeAlias = Annotated[dict[str, Any] | None, Body()]


class LogPage(BaseModel):
    """What is logged. There is one level, and each word says whether lines of its kind are written."""

    log_file: str = Field("", description="Always empty: the log goes to standard error.")
    log_info: bool
    log_warning: bool
    log_error: bool = True
    log_verbose_level: int = Field(description="1 where debugging lines are written, else 0.")
    log_format: str = "default"


class LogChange(BaseModel):
    """What is to be logged from now on; what is left out stays."""

    log_file: str | None = None
    log_info: bool | None = None
    log_warning: bool | None = None
    log_error: bool | None = None
    log_verbose_level: int | None = None
    log_format: str | None = None


class TracePage(BaseModel):
    """What is traced: `trace_rate` is that of how many calls one is picked; all of them are sent as they end."""

    trace_level: list[str]
    trace_rate: str
    trace_count: str = "-1"
    log_frequency: str = "0"
    trace_file: str = ""
    trace_mode: str = "opentelemetry"


router = APIRouter(prefix="/v2", tags=["server"], route_class=AnyContentType)


@router.get("/logging", summary="What is logged")
async def log_settings() -> LogPage:
    return _log_page()


@router.post("/logging", summary="Log more or less from now on")
async def update_log_settings(
    control: ControlDependency, change: Annotated[LogChange | None, Body()] = None
) -> LogPage:
    if change is not None and (changed := _level_after(change)) != level():
        if not control.allowed:
            raise Forbidden("clients may not change what is logged; server.model_control lets them")
        set_level(changed)
    return _log_page()


@router.get("/trace/setting", summary="What is traced")
async def trace_settings(tracing: TracingDependency) -> TracePage:
    return _trace_page(tracing)


@router.get("/models/{model}/trace/setting", summary="What is traced of a model's calls")
async def model_trace_settings(
    model: ModelName, catalogue: CatalogueDependency, tracing: TracingDependency
) -> TracePage:
    catalogue.resolve(model, None)
    return _trace_page(tracing)


@router.post("/trace/setting", summary="What is traced; refused if that would change it")
async def update_trace_settings(tracing: TracingDependency, change: TraceChange = None) -> TracePage:
    _must_be_in_force(change, page := _trace_page(tracing))
    return page


@router.post("/models/{model}/trace/setting", summary="What is traced; refused if that would change it")
async def update_model_trace_settings(
    model: ModelName, catalogue: CatalogueDependency, tracing: TracingDependency, change: TraceChange = None
) -> TracePage:
    catalogue.resolve(model, None)
    _must_be_in_force(change, page := _trace_page(tracing))
    return page


def _log_page() -> LogPage:
    now = level()
    return LogPage(
        log_info=now in ("debug", "info"), log_warning=now != "error", log_verbose_level=1 if now == "debug" else 0
    )


def _level_after(change: LogChange) -> Level:
    """The log level that a client asks for. Raises `InvalidRequest` if no level does what it asks for."""
    if change.log_file or change.log_error is False or change.log_format not in (None, "default"):
        raise InvalidRequest("log_file, log_error and log_format are fixed: errors are always logged to standard error")
    now = _log_page()
    if (now.log_verbose_level if change.log_verbose_level is None else change.log_verbose_level) > 0:
        return "debug"
    if now.log_info if change.log_info is None else change.log_info:
        return "info"
    return "warning" if (now.log_warning if change.log_warning is None else change.log_warning) else "error"


def _trace_page(tracing: TracingSettings) -> TracePage:
    on = tracing.endpoint is not None and tracing.sample_ratio > 0
    rate = str(round(1 / tracing.sample_ratio)) if on else "0"
    return TracePage(trace_level=["TIMESTAMPS"] if on else ["OFF"], trace_rate=rate)


def _must_be_in_force(change: Mapping[str, Any] | None, page: TracePage) -> None:
    """Raises `InvalidRequest` for a setting that is unknown, or different from the one on `page`.

    `null` asks for the value that was set when the gateway started, which is the one in force.
    """
    now = page.model_dump()
    for name, value in (change or {}).items():
        if name not in now:
            raise InvalidRequest(f"there is no trace setting {name[:80]!r}; there are {', '.join(now)}")
        if value is not None and _words(value) != _words(now[name]):
            raise InvalidRequest(
                f"traces are fixed when the gateway starts, by tracing.endpoint and tracing.sample_ratio: {name} is "
                f"{now[name]!r}"
            )


def _words(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]
