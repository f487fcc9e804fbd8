"""The sections of the settings: every key, its default, its bounds and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from sluice.gateway.headers.forwarded_prefix import plain_prefix
from sluice.inference.config.faults import Section
from sluice.inference.config.model_config import KIB, MIB, Bytes, CacheConfig, Truth

ANYWHERE = frozenset({"0.0.0.0", "::"})
"""Hosts that stand for all addresses of a machine."""

REDIS_SCHEMES = frozenset({"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"})


def _existing_file(path: Path) -> Path:
    try:
        there = path.is_file()
    except OSError as error:
        raise ValueError(f"cannot be looked at: {error.strerror}") from None
    if not there:
        raise ValueError("no such file; a relative path starts at the current folder")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]


def _paths(value: object) -> object:
    """Several paths. An environment variable has colons between them, as `PATH` has."""
    return [part for part in value.split(":") if part] if isinstance(value, str) else value


class ModelsSettings(Section):
    """What is served."""

    path: Path = Field(Path("models"), description="The model repository, or one .onnx file.")
    default: str | None = Field(
        None,
        description="The model of calls that name none, as those to /invocations; not needed if there is only one.",
    )
    strict: Truth = Field(
        False, description="Whether to serve nothing unless every model of the repository can be served."
    )
    allow: Annotated[tuple[Path, ...], BeforeValidator(_paths)] = Field(
        (), description="Files and folders outside the repository that models may have their weights in."
    )


def _root_path(value: str) -> str:
    prefix = plain_prefix(value)
    if prefix is None:
        raise PydanticCustomError(
            "root_path", "expected a path such as /ml/sluice: letters, digits and -._~ between slashes"
        )
    return prefix


class ServerSettings(Section):
    """Addresses and TLS of all ports; limits and timeouts of connections, requests and answers."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    grpc_port: int = Field(8001, ge=0, le=65535, description="Port to listen on for gRPC; 0 turns it off.")
    management_port: int = Field(
        0, ge=0, le=65535, description="Port for TorchServe's management API, which loads and unloads models; 0: none."
    )
    management_host: str = Field("127.0.0.1", min_length=1, description="Address of the management API.")
    tls_cert: ExistingFile | None = Field(None, description="Certificate chain (PEM): serve HTTPS.")
    tls_key: ExistingFile | None = Field(None, description="The certificate's private key (PEM).")
    tls_client_ca: ExistingFile | None = Field(None, description="Only clients certified by this CA (PEM) may call.")
    max_body_bytes: Bytes = Field(64 * MIB, ge=1, description="Longest body of a request.")
    max_header_bytes: Bytes = Field(64 * KIB, ge=KIB, description="Longest head of a request, all headers together.")
    max_buffered_bytes: Bytes = Field(
        1024 * MIB, ge=1, description="Requests and answers held in memory for callers, all together."
    )
    max_rows: int = Field(65_536, ge=1, description="Rows of one request, at most; no more than its queue takes, too.")
    max_answer_bytes: Bytes = Field(
        64 * MIB, ge=1, description="Tensors of one answer, at most, before they are encoded."
    )
    readers: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that read large requests, at most; 0: half as many as processors, from 2 up.",
    )
    max_connections: int = Field(10_000, ge=1, description="Connections open at the same time.")
    keep_alive_timeout_s: float = Field(75.0, gt=0, description="How long an idle connection stays open.")
    read_timeout_s: float = Field(
        30.0, gt=0, description="How long a request may take to arrive; a large one gets more."
    )
    write_timeout_s: float = Field(60.0, gt=0, description="How long a client may leave an answer unread.")
    request_timeout_s: float = Field(60.0, gt=0, description="How long a call may wait for its batch; 504 then.")
    shutdown_delay_s: float = Field(0.0, ge=0, description="How long to serve on, not ready, after SIGTERM.")
    shutdown_timeout_s: float = Field(30.0, ge=0, description="How long requests in flight may then take to end.")

    grpc_min_ping_interval_s: float = Field(
        0.1,
        ge=0,
        le=3600,
        description="Least time between pings of a gRPC client; one that often pings sooner is disconnected.",
    )
    grpc_keepalive_time_s: float = Field(
        300.0,
        ge=0.001,
        le=86_400,
        description="A gRPC connection on which nothing came for this time is pinged.",
    )
    grpc_keepalive_timeout_s: float = Field(
        20.0,
        ge=0.001,
        le=3600,
        description="How long a client may take to answer such a ping; it is disconnected then.",
    )
    root_path: Annotated[str, AfterValidator(_root_path)] = Field(
        "",
        description="Path prefix that a proxy takes off requests, such as /ml; empty: as X-Forwarded-Prefix says.",
    )
    model_control: Truth = Field(
        False, description="Whether clients may see the repository, load and unload models, and change what is logged."
    )
    compress_from_bytes: Bytes = Field(
        64 * KIB, ge=0, description="Answers from this length on are compressed where clients accept it; 0: none are."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        for key, partner in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(self, key) is not None and getattr(self, partner) is None:
                raise PydanticCustomError(
                    "lonely", "needs server.{partner} beside it", {"key": key, "partner": partner}
                )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        """Two sockets can be bound to one address until one listens, so binding them would not show the mistake."""
        hosts = {"port": self.host, "grpc_port": self.host, "management_port": self.management_host}
        for key, other in combinations(hosts, 2):
            port = getattr(self, key)
            same_host = hosts[key] == hosts[other] or not ANYWHERE.isdisjoint({hosts[key], hosts[other]})
            if port and port == getattr(self, other) and same_host:
                raise PydanticCustomError(
                    "same_port",
                    "is {port}, as server.{other} is; each needs a port of its own",
                    {"key": key, "other": other, "port": port},
                )
        return self


def _redis_url(value: SecretStr) -> SecretStr:
    address = urlsplit(value.get_secret_value())
    if address.scheme not in REDIS_SCHEMES or not (address.hostname or address.path.strip("/")):
        raise PydanticCustomError(
            "redis_url",
            "expected an address such as redis://127.0.0.1:6379/0, rediss://user:password@host:6380/0 for TLS, "
            "unix:///run/redis.sock, or redis+cluster://host:6379 for a Redis Cluster",
        )
    return value


class CacheSettings(CacheConfig):
    """The cache: what `model.toml` may override, and what all models share."""

    memory_bytes: Bytes = Field(64 * MIB, ge=0, description="Answers kept in memory, at most; 0 keeps none there.")
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None,
        description="A Redis that several gateways share: redis://, rediss:// (TLS), unix://, or redis+cluster://.",
    )
    redis_prefix: str = Field(
        "sluice:", min_length=1, max_length=128, description="What every key in Redis begins with."
    )
    redis_connect_timeout_ms: float = Field(
        100.0, gt=0, le=10_000, description="How long connecting to Redis may take."
    )
    redis_timeout_ms: float = Field(
        20.0, gt=0, le=10_000, description="How long a lookup in Redis may take; it counts as a miss then."
    )
    redis_max_value_bytes: Bytes = Field(
        MIB, ge=1, le=64 * MIB, description="Answers larger than this are not sent to Redis."
    )
    redis_queue_bytes: Bytes = Field(
        16 * MIB, ge=1, description="Answers on their way to Redis, at most; more are dropped."
    )
    redis_lease_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        description="How long gateways wait for a row that another one computes; 0: each computes for itself.",
    )


class LogSettings(Section):
    """What is logged, and how it is written."""

    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The lowest level that is logged.")
    successes_per_s: int = Field(10, ge=0, description="Log lines a second for successful calls.")
    refusals_per_s: int = Field(
        100,
        ge=0,
        description="Log lines a second for late answers, and for each way to refuse a call; failures are all logged.",
    )
    slow_ms: float = Field(
        1000, ge=0, description="A call that is answered after so many milliseconds is logged, sampled or not."
    )


def _collector(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise PydanticCustomError("collector", "expected the address of a collector, such as http://127.0.0.1:4318")
    return value


def _header_pairs(value: SecretStr) -> SecretStr:
    if not all(name.strip() and equals for name, equals, _ in _pairs(value)):
        raise PydanticCustomError("header_pairs", "expected name=value pairs with commas between them")
    return value


def _pairs(value: SecretStr) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in value.get_secret_value().split(",")]


class TracingSettings(Section):
    """Traces for an OpenTelemetry collector. Needs the extra `sluice-gateway[tracing]`."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = Field(
        None, description="Collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; none: nothing is traced."
    )
    headers: Annotated[SecretStr, AfterValidator(_header_pairs)] | None = Field(
        None, description="Headers for the collector: name=value pairs with commas between them."
    )
    sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of calls that is traced where the caller sends no trace; where it does, its trace decides.",
    )
    max_per_s: int = Field(100, ge=1, description="Calls traced in a second, at most, however many callers ask for it.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="How long the collector may take to answer.")
    service_name: str = Field("sluice", min_length=1, max_length=128, description="Name of this service in traces.")

    @property
    def header_pairs(self) -> Mapping[str, str]:
        """`headers`, by name."""
        if self.headers is None:
            return {}
        return {name.strip(): value.strip() for name, _, value in _pairs(self.headers)}
