"""Explains to the caller what is wrong with a V2 body that could not be decoded."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import Any

import msgspec

from sluice.gateway.dialects.formats.json_forms import form_of, shown
from sluice.gateway.dialects.formats.json_reference import Token, checked_elements
from sluice.gateway.dialects.v2.shared_memory import REGION
from sluice.inference.errors import InvalidRequest

MAX_SECOND_READING_BYTES = 1024 * 1024
"""A longer body is not parsed again to find the input that has a misplaced `NaN`."""

JSON_WORDS = MappingProxyType(
    {
        "bool": "true or false",
        "int": "an integer",
        "float": "a number",
        "str": "a string",
        "array": "a list",
        "object": "an object",
    }
)
HALF_A_PAIR = re.compile(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
NON_FINITE = re.compile(rb"-?(?:NaN|Infinity)")


class _Named(msgspec.Struct):
    name: str
    parameters: Any = None


class _Names(msgspec.Struct):
    inputs: list[msgspec.Raw]


class _Loose(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Any


class _LooseBody(msgspec.Struct):
    inputs: list[_Loose]


def fault_of(body: bytes | bytearray, error: ValueError | RecursionError) -> InvalidRequest:
    """The refusal of a body for which the JSON decoder raised this error."""
    if not body.strip():
        return InvalidRequest('the body is empty; expected a JSON object with "inputs"')
    if isinstance(error, RecursionError):
        return InvalidRequest("the body is nested too deeply; data nests as deep as the shape has axes")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(f"the body is not UTF-8: {error.reason} at {_place(body, _first_not_utf8(body))}")
    if isinstance(error, msgspec.ValidationError):
        return InvalidRequest(_misfit(body, str(error)))
    return _malformed(body, str(error))


def _malformed(body: bytes | bytearray, message: str) -> InvalidRequest:
    found = re.fullmatch(r"JSON is malformed: (.*) \(byte (\d+)\)", message)
    if found is None and (half := HALF_A_PAIR.search(body)) is not None:
        return InvalidRequest(f"the body is not valid JSON: half of a surrogate pair at {_place(body, half.start())}")
    if found is None:
        return InvalidRequest(f"the body is not valid JSON: it ends too early, at {_place(body, len(body))}")
    offset = min(int(found[2]), len(body))
    # The decoder reports the place after a minus sign.
    token = NON_FINITE.match(body, max(0, offset - 1)) or NON_FINITE.match(body, offset)
    if token is None:
        return InvalidRequest(f"the body is not valid JSON: {found[1]} at {_place(body, offset)}")
    return _fault_by_second_reading(body) or InvalidRequest(
        f"the body is not valid JSON: {token[0].decode()} at {_place(body, token.start())}; "
        "JSON has finite numbers only, and so have requests"
    )


def _fault_by_second_reading(body: bytes | bytearray) -> InvalidRequest | None:
    """The refusal that names the input and element with a token like `NaN`; `None` if a lax reader finds no fault."""
    if len(body) > MAX_SECOND_READING_BYTES:
        return None
    try:
        document = msgspec.convert(json.loads(body, parse_constant=Token), _LooseBody)
        for each in document.inputs:
            checked_elements(each.name, form_of(each.name, each.datatype), each.shape, each.data)
    except InvalidRequest as fault:
        return fault
    except (ValueError, RecursionError):
        return None
    return None


def _misfit(body: bytes | bytearray, message: str) -> str:
    """The decoder's message about a value of the wrong kind, with the input's name if the value is in an input."""
    what, _, path = message.partition(" - at ")
    what = re.sub("`[^`]*`", _in_json_words, what[:1].lower() + what[1:])
    path = path.strip("`").removeprefix("$").removeprefix(".")
    index = re.match(r"inputs\[(\d+)\]", path)
    if index is None:
        return f"the request is wrong at {path}: {what}" if path else f"the request is wrong: {what}"
    name, parameters = _name(body, int(index[1]))
    if REGION in parameters:
        return f"input {name}: shared memory is not served; the tensor travels in the message"
    return f"input {name} is wrong at {path}: {what}"


def _in_json_words(quoted: re.Match[str]) -> str:
    words = [JSON_WORDS.get(word, word) for word in quoted[0].strip("`").split(" | ")]
    return " or ".join(words)


def _name(body: bytes | bytearray, index: int) -> tuple[str, dict[str, Any]]:
    """The name of an input as a message shows it, and its parameters."""
    try:
        element = msgspec.json.decode(body, type=_Names).inputs[index]
        named = msgspec.json.decode(element, type=_Named)
    except (ValueError, IndexError, RecursionError):
        return f"number {index}", {}
    return shown(named.name), named.parameters if isinstance(named.parameters, dict) else {}


def _first_not_utf8(body: bytes | bytearray) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _place(body: bytes | bytearray, offset: int) -> str:
    line = body.count(b"\n", 0, offset) + 1
    column = offset - body.rfind(b"\n", 0, offset)
    return f"byte {offset} (line {line}, column {column})"
