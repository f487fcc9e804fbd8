"""How errors of decoding travel from a reader to the gateway, which raises the same class with the same text."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import msgspec

from sluice.gateway.dialects.base import MethodNotAllowed
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.gateway.dialects.openai.body import FieldFault
from sluice.inference import errors
from sluice.inference.errors import ModelNotReady, RequestError, SluiceError

LONGEST_TEXT = 24 * 1024
"""Characters of an error's text that are sent, so that it fits into a packet. Dialects quote far less of a body."""

_TOLD = (RequestError, ModelNotReady)

KINDS: Mapping[str, type[SluiceError]] = {
    kind.__name__: kind
    for kind in (*vars(errors).values(), MethodNotAllowed, NotJson)
    if isinstance(kind, type) and issubclass(kind, _TOLD)
}


class BodyRefused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The body was refused. `param` names the member of it that is at fault, where there is one."""

    kind: str
    message: str
    param: str | None = None


class ReaderBug(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Reading failed through a bug of ours. `trace` is a traceback for the log."""

    trace: str


class ReadingFailed(Exception):
    """A reader failed through a bug of ours. The text is its traceback."""


def message_of(error: Exception) -> BodyRefused | ReaderBug:
    """The message in which a reader sends an error."""
    if isinstance(error, FieldFault):
        return BodyRefused("", str(error)[:LONGEST_TEXT], error.param)
    if isinstance(error, _TOLD):
        kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in KINDS)
        return BodyRefused(kind, str(error)[:LONGEST_TEXT])
    if isinstance(error, MemoryError):
        return BodyRefused("RequestTooLarge", "reading the body takes more memory than a body of its length may")
    return ReaderBug("".join(traceback.format_exception(error, limit=-20))[-LONGEST_TEXT:])


def error_of(refused: BodyRefused) -> SluiceError:
    """The error that was sent."""
    if refused.param is not None:
        return FieldFault(refused.message, param=refused.param)
    return KINDS[refused.kind](refused.message)
