"""The body of `POST /v1/embeddings`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, cast

import msgspec

from gateway.text.embedder import Embedder
from inference.errors import InvalidRequest

MOST_INPUTS = 2048
"""Texts in one call, as OpenAI's API has it."""

Ids: TypeAlias = list[int]


class FieldFault(InvalidRequest):
    """What is wrong with one member of a body, whose name is `param`."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class _Addressed(msgspec.Struct):
    """A body as far as it names its model."""

    model: str | None = None


class EmbeddingsBody(msgspec.Struct, frozen=True):
    """What is asked for. Members that are not here are not looked at."""

    input: str | list[str | int | Ids]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def base64(self) -> bool:
        """Whether embeddings are wanted as bytes, rather than as numbers."""
        return self.encoding_format == "base64"


_ADDRESSED = msgspec.json.Decoder(_Addressed)
_BODY = msgspec.json.Decoder(EmbeddingsBody)


def model_of(body: bytes | bytearray) -> str:
    """The model that a body names; empty if it names none. Raises `InvalidRequest`."""
    try:
        return _ADDRESSED.decode(body).model or ""
    except (ValueError, RecursionError) as error:
        raise _fault(error) from None


def read_body(body: bytes | bytearray) -> EmbeddingsBody:
    """The body. Raises `InvalidRequest`, naming the member and what was expected."""
    try:
        return _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise _fault(error) from None


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
        raise FieldFault(f"input has {len(given)} texts; one call takes at most {MOST_INPUTS}", param="input")
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
