"""Reading configuration, and reporting what is wrong with it: the key, its value, and what would be right."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

import annotated_types
import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    SecretBytes,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticKnownError

MASK = "**********"
LONGEST_VALUE = 80

MOST_TOML_BYTES = 1024 * 1024

_CREDENTIALS = re.compile(r"(?<=://)[^/@]+(?=@)|(?<=\?).+")

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

_KINDS: Mapping[str, str] = {
    "_bytes": 'a whole number of bytes, such as 65536 or "64KiB" (KiB, MiB or GiB),',
    "_s": "a number of seconds",
}
"""How a value is described, by the unit at the end of its key."""


class Section(BaseModel):
    """A frozen table of configuration. Refuses unknown keys, infinities, and true and false in place of numbers."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: object, info: ValidationInfo) -> object:
        # To Python, and so to pydantic, true is the number 1.
        if isinstance(value, bool) and bool not in _types(cls.model_fields[str(info.field_name)].annotation):
            raise PydanticKnownError("int_type")
        return value


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. `value` is in the notation of TOML; `None` if it must not be shown."""

    key: str
    value: str | None
    reason: str

    def __str__(self) -> str:
        """`batching.max_rows = 0: expected a whole number from 1 to 65536`."""
        return f"{self.key}: {self.reason}" if self.value is None else f"{self.key} = {self.value}: {self.reason}"


def faults(tree: type[BaseModel], error: ValidationError) -> list[Fault]:
    """Every fault that pydantic found in values for `tree`, with dotted keys and without the values of secrets.

    A value that no member of a union accepts is one fault, not one for each member.
    """
    found: dict[tuple[str, str | None], list[str]] = {}
    for details in error.errors(include_url=False):
        fault = _fault(tree, details)
        reasons = found.setdefault((fault.key, fault.value), [])
        if fault.reason not in reasons:
            reasons.append(fault.reason)
    return [Fault(key, value, _joined(reasons)) for (key, value), reasons in found.items()]


def leaves(tree: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The dotted keys of a tree of sections and their fields, in the tree's order."""
    for name, field in tree.model_fields.items():
        section = _section(field)
        if section is None:
            yield f"{prefix}{name}", field
        else:
            yield from leaves(section, f"{prefix}{name}.")


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `ValueError` naming the file, what was wrong, and the line where it was."""
    try:
        with file.open("rb") as content:
            data = content.read(MOST_TOML_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MOST_TOML_BYTES:
        raise ValueError(f"{file}: is longer than the {MOST_TOML_BYTES} bytes that are read of configuration")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}: line {line} is not UTF-8; a TOML file must be") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from error
    except RecursionError:
        raise ValueError(f"{file}: has lists or tables in one another too deeply to be read") from None


def dotted(parts: Sequence[str]) -> str:
    """The parts of a key in the notation of TOML: `padding.inputs."input.1".axis`."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in parts)


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean x?`, or an empty text if no known word is similar."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def shown(value: object) -> str:
    """A value in the notation of TOML, cut to `LONGEST_VALUE` characters."""
    bare = without_credentials(value) if isinstance(value, str) else value
    try:
        text = repr(value) if isinstance(value, float) else json.dumps(bare, ensure_ascii=False, default=str)
    except RecursionError:
        return "[…]"
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def without_credentials(text: str) -> str:
    """A URL with `MASK` in place of its credentials and its query; any other text unchanged."""
    return _CREDENTIALS.sub(MASK, text) if "://" in text else text


def _fault(tree: type[BaseModel], details: ErrorDetails) -> Fault:
    context = details.get("ctx", {})
    location = [str(part) for part in (*details["loc"], *([context["key"]] if "key" in context else []))]
    if details["type"] == "extra_forbidden":
        *table, name = location
        return Fault(".".join([*([dotted(table)] if table else []), name]), None, _unknown(tree, location))
    if details["type"] == "missing":
        return Fault(dotted(location), None, "is needed, and has no default")
    depth, field = _field_at(tree, location)
    key = dotted(location[:depth])
    if field is None:
        return Fault(key, None, _reason(key, None, details))
    secret = any(each in (SecretStr, SecretBytes) for each in _types(field.annotation))
    given = None if "key" in context else MASK if secret else shown(details["input"])
    return Fault(key, given, _reason(key, field, details))


def _field_at(tree: type[BaseModel], location: Sequence[str]) -> tuple[int, FieldInfo | None]:
    """The key in which a location lies: the number of its parts, and its field; `None` if the key is that of a table.

    After the key, a location may go on with indices into the value, or with the names of a union's members.
    """
    section: type[BaseModel] | None = tree
    field = None
    depth = 0
    while section is not None and depth < len(location):
        field = section.model_fields.get(location[depth])
        if field is None:
            return len(location), None
        depth += 1
        section = _section(field)
        named = _named_section(field)
        if named is not None and depth < len(location):
            section = named
            depth += 1
    return depth, field if section is None else None


def _joined(reasons: Sequence[str]) -> str:
    first, *others = reasons
    return ", or ".join([first, *[reason.removeprefix("expected ") for reason in others]])


def _reason(key: str, field: FieldInfo | None, details: ErrorDetails) -> str:
    kind = details["type"]
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "literal_error":
        return f"expected {details['ctx']['expected']}".replace("'", '"')
    if kind in ("model_type", "model_attributes_type"):
        return f"expected a table, [{key}]"
    if field is not None and _named_section(field) is not None:
        return f"expected tables, [{key}.NAME]"
    if kind.startswith("bool_"):
        return "expected true or false"
    if kind == "finite_number":
        return "expected a finite number"
    if field is not None and kind.startswith(("int_", "float_", "greater_", "less_")):
        return f"expected {_number(key, field)}"
    if kind == "tuple_type":
        return "expected a list in square brackets"
    if kind == "string_type":
        return "expected text in quotation marks"
    return details["msg"]


def _number(key: str, field: FieldInfo) -> str:
    plain = "a number" if float in _types(field.annotation) else "a whole number"
    kind = next((words for unit, words in _KINDS.items() if key.endswith(unit)), plain)
    bounds = {type(each): each for each in field.metadata}
    match bounds.get(annotated_types.Gt), bounds.get(annotated_types.Ge), bounds.get(annotated_types.Le):
        case None, annotated_types.Ge(ge=least), annotated_types.Le(le=most):
            return f"{kind} from {least} to {most}"
        case annotated_types.Gt(gt=bottom), None, None:
            return f"{kind} above {bottom}"
        case None, annotated_types.Ge(ge=least), None:
            return f"{kind} of at least {least}"
        case _:
            return kind.rstrip(",")


def _unknown(tree: type[BaseModel], location: Sequence[str]) -> str:
    section = _section_at(tree, location[:-1])
    here = list(section.model_fields)
    name = location[-1]
    elsewhere = [key for key, _ in leaves(tree) if key.endswith(f".{name}")]
    hint = f"; did you mean {elsewhere[0]}?" if elsewhere else nearest(name, here)
    the_keys = "The keys" if hint else "the keys"
    return f"unknown key{hint or ';'} {the_keys} here are {', '.join(here)}"


def _section_at(tree: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    section: type[BaseModel] = tree
    parts = iter(location)
    for part in parts:
        field = section.model_fields[part]
        named = _named_section(field)
        if named is not None:
            next(parts, None)  # the name, which is the user's own
        section = named or _section(field) or section
    return section


def _section(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    if type(None) in get_args(annotation):  # a table that may be left out
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _named_section(field: FieldInfo) -> type[BaseModel] | None:
    """The section of each table in a table of tables, whose names are the user's own."""
    if get_origin(field.annotation) is not dict:
        return None
    section = get_args(field.annotation)[1]
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _types(annotation: Any) -> list[Any]:
    """The annotation and every type inside it."""
    return [annotation, *(inner for argument in get_args(annotation) for inner in _types(argument))]
