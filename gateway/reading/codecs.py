"""The dialects that a reader knows, by a number that both sides have for each."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.dialects.openai.codec import OpenAI
from sluice.gateway.dialects.v2.binary import BINARY_LENGTH
from sluice.gateway.messages import Header
from sluice.gateway.protocols import DIALECTS
from sluice.inference.config.model_config import MIB
from sluice.inference.types import Datatype

_GRPC = len(DIALECTS)

PLAIN_BYTES = 4 * MIB
"""V2's numbers and messages of gRPC are read apart from this length on only: they take 1 to 4 ms a MiB, and in a reader
some 10 ms of a processor more, for a picture in JSON is 3 MiB."""

_NUMBERS = {(each.name, getattr(each, "verb", "")): number for number, each in enumerate(DIALECTS)} | {
    ("grpc", ""): _GRPC
}
_QUICK = ("v2", "grpc")
_OWN_THREADS = ("openai", "grpc")


def number_of(dialect: Dialect) -> int | None:
    """The number of a dialect; `None` of one that readers do not know."""
    return _NUMBERS.get((dialect.name, getattr(dialect, "verb", "")))


def codec_of(number: int) -> Dialect:
    """The dialect that has this number."""
    if number != _GRPC:
        return DIALECTS[number]
    # Protobuf is for those alone who are asked in gRPC.
    from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer

    return GrpcInfer()


def read_apart(dialect: Dialect, size_bytes: int, headers: Sequence[Header], callee: Callee) -> bool:
    """Whether a body of so many bytes is for a reader, where it takes some milliseconds longer and stalls nobody."""
    if size_bytes < LARGE_BYTES:
        return False
    if isinstance(dialect, OpenAI) and callee.tokenizer is None:
        return False  # there is no file that a reader could have the tokenizer from
    if dialect.name not in _QUICK:
        return True
    strings = any([spec.datatype is Datatype.BYTES for spec in callee.signature.inputs])
    if not strings and any([name == BINARY_LENGTH for name, _ in headers]):
        return False  # the numbers stay where they are in the body
    return strings or size_bytes >= PLAIN_BYTES


def heavy_apart(dialect: Dialect) -> bool:
    """Whether a short body that is heavy all the same is for a reader, as pictures are.

    Texts are tokenised beside the interpreter, by a tokenizer that is large and is there already.
    """
    return dialect.name not in _OWN_THREADS
