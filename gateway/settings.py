"""The settings: one frozen tree, from defaults, `sluice.toml`, the environment and the command line.

This is the one place that reads the environment. The key `server.port` is `port` in the table `[server]` of
`sluice.toml`, and the variable `SLUICE_SERVER_PORT`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

import msgspec
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from inference.config import KIB, MIB, BatchingConfig, Bytes, CacheConfig, ModelConfig, WorkersConfig
from inference.errors import StartError
from inference.faults import Fault, Section, faults, leaves, nearest, read_toml

SETTINGS_FILE = "sluice.toml"
PREFIX = "SLUICE_"
FILE_VARIABLE = "SLUICE_CONFIG"
DEFAULT = "default"
REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"})


class SettingsError(StartError):
    """The settings are wrong. `problems` are all faults that one load found, each with its origin."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["the settings are wrong:", *(f"  {each}" for each in problems)]))


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("no such file; a relative path starts at the current folder")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]


class ModelsSettings(Section):
    """What is served."""

    path: Path = Field(Path("models"), description="The model repository, or one .onnx file.")


class ServerSettings(Section):
    """The door: addresses, TLS, limits and timeouts of HTTP."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    tls_cert: ExistingFile | None = Field(None, description="Certificate chain (PEM): serve HTTPS.")
    tls_key: ExistingFile | None = Field(None, description="The certificate's private key (PEM).")
    tls_client_ca: ExistingFile | None = Field(None, description="Only clients certified by this CA (PEM) may call.")
    max_body_bytes: Bytes = Field(64 * MIB, ge=1, description="Longest body of a request.")
    max_header_bytes: Bytes = Field(64 * KIB, ge=KIB, description="Longest head of a request, all headers together.")
    max_buffered_bytes: Bytes = Field(1024 * MIB, ge=1, description="Request bodies held in memory, all together.")
    max_connections: int = Field(10_000, ge=1, description="Connections open at the same time.")
    keep_alive_timeout_s: float = Field(75.0, gt=0, description="How long an idle connection stays open.")
    read_timeout_s: float = Field(
        30.0, gt=0, description="How long a request may take to arrive; a large one gets more."
    )
    write_timeout_s: float = Field(60.0, gt=0, description="How long a client may leave an answer unread.")
    request_timeout_s: float = Field(60.0, gt=0, description="How long a call may wait for its batch; 504 then.")
    shutdown_delay_s: float = Field(0.0, ge=0, description="How long to serve on, not ready, after SIGTERM.")
    shutdown_timeout_s: float = Field(30.0, ge=0, description="How long requests in flight may then take to end.")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        for key, partner in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(self, key) is not None and getattr(self, partner) is None:
                raise PydanticCustomError(
                    "lonely", "needs server.{partner} beside it", {"key": key, "partner": partner}
                )
        return self


def _redis_url(value: SecretStr) -> SecretStr:
    address = urlsplit(value.get_secret_value())
    if address.scheme not in REDIS_SCHEMES or not (address.hostname or address.path.strip("/")):
        raise PydanticCustomError(
            "redis_url",
            "expected an address such as redis://127.0.0.1:6379/0, rediss://user:password@host:6380/0 for TLS, or "
            "unix:///run/redis.sock",
        )
    return value


class CacheSettings(CacheConfig):
    """The cache: what `model.toml` may override, and what all models share."""

    memory_bytes: Bytes = Field(64 * MIB, ge=0, description="Answers kept in memory, at most; 0 keeps none there.")
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None, description="A Redis that several gateways share: redis://, rediss:// (TLS) or unix://."
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
    """Traces for an OpenTelemetry collector. Needs the extra `sluice[tracing]`."""

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
        description="Part of the calls without a caller's trace that is traced; else the caller decides.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="How long the collector has to take what is sent to it.")
    service_name: str = Field("sluice", min_length=1, max_length=128, description="Name of this service in traces.")

    @property
    def header_pairs(self) -> Mapping[str, str]:
        """`headers`, by name."""
        if self.headers is None:
            return {}
        return {name.strip(): value.strip() for name, _, value in _pairs(self.headers)}


class Settings(BaseSettings):
    """Every setting of the gateway. Making one reads nothing from outside; that is for `load_settings`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
    )

    models: ModelsSettings = ModelsSettings()
    server: ServerSettings = ServerSettings()
    batching: BatchingConfig = BatchingConfig()
    workers: WorkersConfig = WorkersConfig()
    cache: CacheSettings = CacheSettings()
    logs: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @property
    def model_defaults(self) -> ModelConfig:
        """What a model's own `model.toml` overrides."""
        cache = CacheConfig(**{name: getattr(self.cache, name) for name in CacheConfig.model_fields})
        return ModelConfig(batching=self.batching, workers=self.workers, cache=cache)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """None but the values given: `load_settings` lays the sources over each other, and keeps each one's origin."""
        return (init_settings,)


class LoadedSettings(msgspec.Struct, frozen=True):
    """Settings, and for each dotted key where its value is from.

    An origin is `default`, the settings file as it was named, a variable such as `SLUICE_SERVER_PORT`, or a
    command-line option such as `--port`.
    """

    settings: Settings
    origins: Mapping[str, str]


class _Given(msgspec.Struct, frozen=True):
    value: object
    origin: str
    in_file: bool = False


def load_settings(
    cli: Mapping[str, object],
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    tree: type[Settings] = Settings,
) -> LoadedSettings:
    """The effective settings: defaults, overridden by the settings file, the environment and `cli`, in this order.

    `cli` has dotted keys; a value of `None` is an option that was not given. The settings file is `config_file`, or
    else the one that `SLUICE_CONFIG` names, or else `sluice.toml` in `folder` (the current one), if there is one. An
    empty variable counts as unset. Raises `SettingsError` with every fault found: a missing or broken file, unknown
    keys and variables, and wrong values.
    """
    variables = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    problems: list[str] = []
    given = {
        **_from_file(config_file, variables, folder or Path(), problems),
        **_from_environment(tree, variables, problems),
        **{key: _Given(value, option(key)) for key, value in cli.items() if value is not None},
    }
    settings = None
    try:
        settings = tree.model_validate(_nested(given))
    except ValidationError as error:
        problems += [_problem(fault, given) for fault in faults(tree, error)]
    if settings is None or problems:
        raise SettingsError(problems)
    return LoadedSettings(settings, {key: given[key].origin if key in given else DEFAULT for key, _ in leaves(tree)})


def variable(key: str) -> str:
    """The environment variable of a key: `SLUICE_SERVER_PORT` for `server.port`."""
    return PREFIX + key.replace(".", "_").upper()


def option(key: str) -> str:
    """The command-line option of a key: `--port` for `server.port`, `--log-level` for `logs.level`."""
    section, _, name = key.rpartition(".")
    if key == "models.path":
        return "MODELS"
    return f"--{'log-' if section == 'logs' else ''}{name.replace('_', '-')}"


def _from_file(
    named: Path | None, variables: Mapping[str, str], folder: Path, problems: list[str]
) -> dict[str, _Given]:
    by = "--config"
    if named is None and FILE_VARIABLE in variables:
        named, by = Path(variables[FILE_VARIABLE]), FILE_VARIABLE
    file = folder / SETTINGS_FILE if named is None else named
    if not file.exists():
        if named is not None:
            problems.append(f"{by}: {file} does not exist")
        return {}
    try:
        tables = read_toml(file)
    except ValueError as error:
        problems.append(str(error))
        return {}
    origin = SETTINGS_FILE if named is None else str(file)
    given: dict[str, _Given] = {}
    for section, table in tables.items():
        if isinstance(table, dict):
            given |= {f"{section}.{key}": _Given(value, origin, in_file=True) for key, value in table.items()}
        if not isinstance(table, dict) or not table:
            given[section] = _Given(table, origin, in_file=True)
    return given


def _from_environment(tree: type[Settings], variables: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    keys = {variable(key): key for key, _ in leaves(tree)}
    given: dict[str, _Given] = {}
    for name in sorted(variables):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or _is_service_link(name, variables[name], keys):
            continue
        if name in keys:
            given[keys[name]] = _Given(variables[name], name)
        else:
            hint = nearest(name, [*keys, FILE_VARIABLE]) or "; `sluice config` lists the settings"
            problems.append(f"{name}: unknown variable{hint}")
    return given


_LINKED_ADDRESS = re.compile(r"SLUICE_(\w+_)?PORT", re.ASCII)
_LINKED_DETAIL = re.compile(
    r"SLUICE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)


def _is_service_link(name: str, value: str, keys: Mapping[str, str]) -> bool:
    """Whether the variable tells the address of a Kubernetes service.

    A service called sluice, or sluice-redis, puts such variables into every pod of its namespace:
    https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
    """
    if name not in keys and _LINKED_DETAIL.fullmatch(name):
        return True
    return _LINKED_ADDRESS.fullmatch(name) is not None and value.startswith(("tcp://", "udp://", "sctp://"))


def _nested(given: Mapping[str, _Given]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key in sorted(given):  # a section stands before its keys
        section, _, name = key.partition(".")
        if not name:
            tables[section] = given[key].value
        elif isinstance(table := tables.setdefault(section, {}), dict):
            table[name] = given[key].value
    return tables


def _problem(fault: Fault, given: Mapping[str, _Given]) -> str:
    sources = [each for key, each in given.items() if key == fault.key or key.startswith(f"{fault.key}.")]
    if not sources:
        return str(fault)
    source = sources[-1]
    if source.in_file:
        return f"{source.origin}: {fault}"
    return str(Fault(source.origin, fault.value, fault.reason))
