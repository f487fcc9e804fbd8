"""The settings: one frozen tree, from defaults, `sluice.toml`, the environment and the command line.

This is the one place that reads the environment. The key `server.port` is `port` in the table `[server]` of
`sluice.toml`, and the variable `SLUICE_SERVER_PORT`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from sluice.gateway.settings.sections import CacheSettings, LogSettings, ModelsSettings, ServerSettings, TracingSettings
from sluice.inference.config.faults import Fault, faults, leaves, nearest, read_toml
from sluice.inference.config.model_config import BatchingConfig, CacheConfig, ModelConfig, WorkersConfig
from sluice.inference.errors import StartError

SETTINGS_FILE = "sluice.toml"
PREFIX = "SLUICE_"
FILE_VARIABLE = "SLUICE_CONFIG"
DEFAULT = "default"
PLATFORM_PORTS = ("AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT")
"""Variables by which Vertex AI and SageMaker say which port to listen on. `SLUICE_SERVER_PORT` and `--port` win."""


class SettingsError(StartError):
    """The settings are wrong. `problems` has every fault that was found, each with its origin."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["the settings are wrong:", *(f"  {each}" for each in problems)]))


class Settings(BaseModel):
    """Every setting of the gateway. Making one reads nothing from outside; `load_settings` does that."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

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

    @property
    def secrets(self) -> Sequence[str]:
        """What no log line may show: credentials, as they were given and as they are sent."""
        found = list(self.tracing.header_pairs.values())
        addresses = [self.tracing.endpoint or ""]
        if self.cache.redis_url is not None:
            addresses.append(self.cache.redis_url.get_secret_value())
        for address in map(urlsplit, addresses):
            found += [address.password or "", unquote(address.password or ""), address.query]
            if not address.password:
                found.append(address.username or "")
        return [secret for secret in found if secret]


class LoadedSettings(msgspec.Struct, frozen=True):
    """Settings, and for each dotted key where its value is from.

    An origin is `default`, the settings file as it was named, a variable such as `SLUICE_SERVER_PORT`, or a
    command-line option such as `--port`. `unseen` says why it is not known whether there is a settings file.
    """

    settings: Settings
    origins: Mapping[str, str]
    unseen: str | None = None


class _Given(msgspec.Struct, frozen=True):
    value: object
    origin: str
    in_file: bool = False


class _SettingsFile(msgspec.Struct, frozen=True):
    file: Path | None
    origin: str
    unseen: str | None = None


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
    place = _settings_file(config_file, variables, folder or Path(), problems)
    given = {
        **_from_file(place, problems),
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
    origins = {key: given[key].origin if key in given else DEFAULT for key, _ in leaves(tree)}
    return LoadedSettings(settings, origins, place.unseen)


def variable(key: str) -> str:
    """The environment variable of a key: `SLUICE_SERVER_PORT` for `server.port`."""
    return PREFIX + key.replace(".", "_").upper()


def option(key: str) -> str:
    """The command-line option of a key: `--port` for `server.port`, `--log-level` for `logs.level`."""
    section, _, name = key.rpartition(".")
    if key == "models.path":
        return "MODELS"
    return f"--{'log-' if section == 'logs' else ''}{name.replace('_', '-')}"


def _settings_file(
    named: Path | None, variables: Mapping[str, str], folder: Path, problems: list[str]
) -> _SettingsFile:
    """Which file holds settings. A file that was named must exist; `sluice.toml` in the folder need not."""
    by = "--config"
    if named is None and FILE_VARIABLE in variables:
        named, by = Path(variables[FILE_VARIABLE]), FILE_VARIABLE
    file = folder / SETTINGS_FILE if named is None else named
    try:
        there, why_not = file.exists(), "does not exist"
    except OSError as error:  # the folder may not be ours to read
        there, why_not = False, f"cannot be looked for: {error.strerror}"
        if named is None:
            return _SettingsFile(None, "", f"{file.absolute()} {why_not}; no settings were read from it")
    if not there:
        if named is not None:
            problems.append(f"{by}: {file} {why_not}")
        return _SettingsFile(None, "")
    return _SettingsFile(file, SETTINGS_FILE if named is None else str(file))


def _from_file(place: _SettingsFile, problems: list[str]) -> dict[str, _Given]:
    if place.file is None:
        return {}
    try:
        tables = read_toml(place.file)
    except ValueError as error:
        problems.append(str(error))
        return {}
    origin = place.origin
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
    for name in PLATFORM_PORTS:
        if name in variables:
            given["server.port"] = _Given(variables[name], name)
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
    """Whether the variable is the address of a Kubernetes service, and no setting.

    For a service called sluice, or sluice-redis, Kubernetes sets such variables in every pod of the namespace:
    https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
    """
    if name not in keys and _LINKED_DETAIL.fullmatch(name):
        return True
    return _LINKED_ADDRESS.fullmatch(name) is not None and value.startswith(("tcp://", "udp://", "sctp://"))


def _nested(given: Mapping[str, _Given]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key in sorted(given):  # a section comes before its keys
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
