"""Writes `docs/settings.md` from the settings' own fields: `make settings`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sluice.gateway.cli import OPTIONS
from sluice.gateway.settings.load import FILE_VARIABLE, Settings, option, variable
from sluice.inference.config.model_config import (
    GIB,
    KIB,
    MIB,
    BatchingConfig,
    CacheConfig,
    CutOutput,
    ImageConfig,
    ModelConfig,
    PaddedInput,
    TextConfig,
    WorkersConfig,
)

PAGE = Path(__file__).with_name("settings.md")

SHARED: Mapping[str, type[BaseModel]] = {"batching": BatchingConfig, "workers": WorkersConfig, "cache": CacheConfig}
"""The sections whose keys may stand in `model.toml`, too."""

TABLES: Mapping[str, type[BaseModel]] = {
    "padding.inputs.NAME": PaddedInput,
    "padding.outputs.NAME": CutOutput,
    "text": TextConfig,
    "input.NAME.image": ImageConfig,
}
"""The tables that only `model.toml` has."""

SEE = {
    "padding.inputs.NAME": "[Padding](padding.md) explains it.",
    "padding.outputs.NAME": "[Padding](padding.md) explains it.",
    "text": "[Dialects](dialects.md#openai-embeddings) has an example.",
    "input.NAME.image": "[Dialects](dialects.md#torchserve) says what such an input takes.",
}

HEAD = f"""# Settings

`make settings` writes this page from the code.

The gateway reads its settings from `sluice.toml` in the working folder (or from the file that `--config` or
`{FILE_VARIABLE}` names), from environment variables and from command-line options. Each of these overrides the one
before. The key `server.port` is `port` in the table `[server]` of `sluice.toml`. `sluice config` prints all settings
and says where each value comes from.

A size in bytes is a whole number, or text such as `"64MiB"` (`KiB`, `MiB`, `GiB`). A model's own
[`model.toml`](#modeltoml) overrides the settings for that model.
"""

OF_MODELS = """## model.toml

`model.toml` lies in a model's folder and is optional. It may set the keys of `[batching]` and `[workers]`, those of
`[cache]` that are marked above, and the keys below. They have no variables and no options.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        parts.append(_section(section, model))
    parts.append(OF_MODELS)
    for table, model in TABLES.items():
        parts.append(_table(table, model))
    parts.append(_named())
    return "\n".join(parts).replace("is `None`", "is not set")


def _section(section: str, model: type[BaseModel]) -> str:
    """A table of the settings."""
    lines = [
        f"## [{section}]\n",
        _about(model) + _shared(section),
        _row("key", "variable, option", "value", "default", ""),
    ]
    lines.append(_row(*["---"] * 5))
    for name, schema in _properties(model):
        key = f"{section}.{name}"
        ways = [f"`{variable(key)}`"]
        if any(key == of for of, _ in OPTIONS.values()) or key == "models.path":
            ways.append(f"`{option(key)}`")
        mark = " \\*" if section == "cache" and name in CacheConfig.model_fields else ""
        lines.append(
            _row(f"`{key}`{mark}", ", ".join(ways), _value(name, schema), _default(name, schema), _text(schema))
        )
    return "\n".join(lines) + "\n"


def _table(table: str, model: type[BaseModel]) -> str:
    """A table of `model.toml`."""
    lines = [
        f"### [{table}]\n",
        f"{_about(model)}\n{SEE[table]}\n",
        _row("key", "value", "default", ""),
        _row(*["---"] * 4),
    ]
    needed = model.model_json_schema().get("required", [])
    for name, schema in _properties(model):
        default = "needed" if name in needed else _default(name, schema)
        lines.append(_row(f"`{name}`", _value(name, schema), default, _text(schema)))
    return "\n".join(lines) + "\n"


def _named() -> str:
    """The tables of `model.toml` whose keys are names that the user chooses."""
    lines = ["### [labels] and [version_labels]\n", _row("key", "value", ""), _row(*["---"] * 3)]
    for name, schema in _properties(ModelConfig):
        if name.endswith("labels"):
            lines.append(_row(f"`{name}.NAME`", _value(name, schema["additionalProperties"]), _text(schema)))
    return "\n".join(lines) + "\n"


def _shared(section: str) -> str:
    if section not in SHARED:
        return ""
    return (
        f"\n{'The keys with a star' if section == 'cache' else 'All keys'} may also stand in a model's `model.toml`.\n"
    )


def _about(model: type[BaseModel]) -> str:
    """What the class says of itself, without where its lines break."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(model.__doc__ or "").split("\n\n")) + "\n"


def _properties(model: type[BaseModel]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    schema = model.model_json_schema()
    yield from schema["properties"].items()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _text(schema: Mapping[str, Any]) -> str:
    return " ".join(schema.get("description", "").split())


def _default(name: str, schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default is None:
        return "not set"
    if name.endswith("_bytes"):
        return f"`{_size(default)}`"
    return f"`{_toml(default)}`"


def _value(name: str, schema: Mapping[str, Any]) -> str:
    """What may be set: a type, and its bounds."""
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(_kind(name, each) for each in kinds))


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{_toml(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_toml(each)}`" for each in schema["enum"])
    if schema["type"] == "array":
        return _array(name, schema)
    words = {"boolean": "`true` or `false`", "integer": "whole number", "number": "number", "string": "text"}
    word = words[schema["type"]]
    if schema.get("format") == "path":
        word = "path"
    if schema["type"] == "integer" and name.endswith("_bytes"):
        word = "size"
    return word + _bounds(name, schema)


def _array(name: str, schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        inner = _kind(name, schema["prefixItems"][0])
        return f"list of {len(schema['prefixItems'])}, each a {inner}"
    most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
    items = {"path": "paths", "whole number": "whole numbers", "number": "numbers", "text": "texts"}
    return f"list of {items[_kind(name, schema['items'])]}{most}"


def _bounds(name: str, schema: Mapping[str, Any]) -> str:
    shown = _size if name.endswith("_bytes") else _toml
    low, high = schema.get("minimum"), schema.get("maximum")
    parts = []
    if (above := schema.get("exclusiveMinimum")) is not None:
        parts.append(f"above {shown(above)}")
    if low is not None and high is not None:
        parts.append(f"{shown(low)} to {shown(high)}")
    elif low is not None:
        parts.append(f"{shown(low)} or more")
    elif high is not None:
        parts.append(f"at most {shown(high)}")
    if (longest := schema.get("maxLength")) is not None:
        parts.append(f"{schema.get('minLength', 0)} to {longest} characters")
    return "".join(f", {part}" for part in parts)


def _size(number: int) -> str:
    for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return str(value)


if __name__ == "__main__":
    PAGE.write_text(page())
