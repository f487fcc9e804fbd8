"""Prints the settings in force, with the origin of each value and without secrets."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, SecretBytes, SecretStr

from sluice.gateway.settings.load import LoadedSettings
from sluice.inference.config.faults import MASK, shown, without_credentials
from sluice.inference.config.model_config import GIB, KIB, MIB

NOT_SET = "-"


def as_table(loaded: LoadedSettings) -> str:
    """One line per key: the key, the value as it is written in TOML (`-` where there is none), and its origin."""
    rows = [("KEY", "VALUE", "ORIGIN")]
    for key, origin in loaded.origins.items():
        rows.append((key, _text(key, plain(value_at(loaded.settings, key))), origin))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in rows)


def as_json_text(loaded: LoadedSettings) -> str:
    """An object with `{"value": …, "origin": …}` for each dotted key."""
    settings = {
        key: {"value": plain(value_at(loaded.settings, key)), "origin": origin}
        for key, origin in loaded.origins.items()
    }
    return json.dumps(settings, indent=2, ensure_ascii=False)


def value_at(settings: BaseModel, key: str) -> object:
    """The value of a dotted key."""
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def plain(value: object) -> object:
    """A value in the types of JSON and TOML, with every secret in it masked, at any depth."""
    match value:
        case SecretStr() | SecretBytes():
            return MASK
        case BaseModel():
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        case dict():
            return {str(name): plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case Path():
            return str(value)
        case str():
            return without_credentials(value)
        case _:
            return value


def _text(key: str, value: object) -> str:
    if value is None:
        return NOT_SET
    if key.endswith("_bytes") and isinstance(value, int):
        for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value and value % size == 0:
                return f'"{value // size}{unit}"'
    return shown(value)
