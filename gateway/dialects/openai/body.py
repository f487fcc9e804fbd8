"""The body of `POST /v1/embeddings`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, cast

import msgspec

from sluice.gateway.dialects.formats.body_bounds import BOUNDED_FROM_BYTES
from sluice.gateway.inputs.text.embedder import Embedder
from sluice.inference.errors import InvalidRequest

MOST_INPUTS = 2048
"""Texts in one call, at most: the bound of OpenAI's API."""

Ids: TypeAlias = list[int]


class FieldFault(InvalidRequest):
    """One member of the body, named `param`, is wrong."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class _Addressed(msgspec.Struct):
    """A body, of which only the model's name is read."""

    model: str | None = None


class EmbeddingsBody(msgspec.Struct, frozen=True):
    """What is asked for. Other members of a body are ignored."""

    input: str | list[str | int | Ids]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def base64(self) -> bool:
        """Whether embeddings are wanted as bytes, rather than as numbers."""
        return self.encoding_format == "base64"


class _Input(msgspec.Struct):
    input: msgspec.Raw


_FIRST = re.compile(rb"\[[ \t\r\n]*([^ \t\r\n\]])")
_INPUT = msgspec.json.Decoder(_Input)
_ADDRESSED = msgspec.json.Decoder(_Addressed)
_BODY = msgspec.json.Decoder(EmbeddingsBody)


def model_of(body: bytes | bytearray) -> str:
    """The model that a body names; empty if it names none. Raises `InvalidRequest` for what is no JSON object."""
    try:
        return _ADDRESSED.decode(body).model or ""
    except (ValueError, RecursionError) as error:
        raise _fault(error) from None


def read_body(body: bytes | bytearray, max_tokens: int) -> EmbeddingsBody:
    """The body. Raises `InvalidRequest`, naming the member and what was expected."""
    try:
        if len(body) >= BOUNDED_FROM_BYTES:
            _check_input(bytes(_INPUT.decode(body).input), max_tokens)
        return _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise _fault(error) from None


def _check_input(text: bytes, max_tokens: int) -> None:
    """Raises `FieldFault` for far too many texts or tokens, before each of them becomes an object.

    It counts quotes without a backslash before them. The quote that ends a text may also have one, so there may be up
    to twice as many texts as it counts.
    """
    first = _FIRST.match(text)
    if first is None:
        return
    texts, most = 0, MOST_INPUTS * max_tokens
    if first[1] == b'"':
        texts = (text.count(b'"') - text.count(b'\\"')) // 2
    elif first[1] == b"[":
        texts = text.count(b"[") - 1
    else:
        most = max_tokens
    if texts > MOST_INPUTS:
        raise _too_many(texts)
    if first[1] != b'"' and (tokens := text.count(b",") + 1) > most:
        raise FieldFault(f"input has {tokens} tokens; it has at most {most}, {max_tokens} for each text", param="input")


def _too_many(texts: int) -> FieldFault:
    return FieldFault(f"input has {texts} texts; one call takes at most {MOST_INPUTS}", param="input")


def rows_of(asked: EmbeddingsBody, embedder: Embedder) -> Sequence[Ids]:
    """The token ids of each text. Raises `InvalidRequest` and `RequestTooLarge`."""
    given: Sequence[str | int | Ids] = [asked.input] if isinstance(asked.input, str) else asked.input
    kinds = set(map(type, given))
    if not kinds:
        raise FieldFault("input is an empty list; expected at least one text", param="input")
    if len(kinds) > 1:
        raise FieldFault("input mixes texts and tokens; expected only texts, or only tokens", param="input")
    if kinds == {int}:
        given = [cast(Ids, given)]
    if len(given) > MOST_INPUTS:
        raise _too_many(len(given))
    try:
        if kinds == {str}:
            return embedder.tokenise(cast(Sequence[str], given))
        ids = cast(Sequence[Ids], given)
        embedder.check(ids)
    except InvalidRequest as fault:
        raise FieldFault(f"input is wrong: {fault}", param="input") from None
    return ids


def _fault(error: ValueError | RecursionError) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return InvalidRequest("the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(f"the body is not UTF-8: {error.reason}")
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"the body is not valid JSON: {error}")
    what, _, path = str(error).partition(" - at ")
    member = re.match(r"`\$\.(\w+)", path)
    if member is None:
        return InvalidRequest(f"the body is wrong: {what}")
    return FieldFault(f"{path.strip('`').removeprefix('$.')} is wrong: {what}", param=member[1])
