"""The dialects that a reader knows, each by a number, and which bodies go to a reader."""

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
"""Numbers in V2's JSON, and messages of gRPC, go to a reader only from this length on. Reading them takes 1 to 4 ms for
each MiB, and a reader costs about 10 ms of processor time more; a picture in JSON, for instance, has 3 MiB."""

_NUMBERS = {(each.name, getattr(each, "verb", "")): number for number, each in enumerate(DIALECTS)} | {
    ("grpc", ""): _GRPC
}
_QUICK = ("v2", "grpc")
_OWN_THREADS = ("openai", "grpc")


def number_of(dialect: Dialect) -> int | None:
    """The number of a dialect; `None` if readers do not know it."""
    return _NUMBERS.get((dialect.name, getattr(dialect, "verb", "")))


def codec_of(number: int) -> Dialect:
    """The dialect with this number."""
    if number != _GRPC:
        return DIALECTS[number]
    # Imported late, since importing protobuf takes time that only readers of gRPC bodies should spend.
    from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer

    return GrpcInfer()


def read_apart(dialect: Dialect, size_bytes: int, headers: Sequence[Header], callee: Callee) -> bool:
    """Whether a body of so many bytes goes to a reader: it takes some milliseconds longer, and blocks no other call."""
    if size_bytes < LARGE_BYTES:
        return False
    if isinstance(dialect, OpenAI) and callee.tokenizer is None:
        return False  # there is no file from which a reader could load the tokenizer
    if dialect.name not in _QUICK:
        return True
    strings = any([spec.datatype is Datatype.BYTES for spec in callee.signature.inputs])
    if not strings and any([name == BINARY_LENGTH for name, _ in headers]):
        return False  # binary numbers are used where they are in the body
    return strings or size_bytes >= PLAIN_BYTES


def heavy_apart(dialect: Dialect) -> bool:
    """Whether a short body that takes long to read goes to a reader, as pictures do.

    Texts do not: tokenising releases the interpreter lock, and the large tokenizer is loaded in this process already.
    """
    return dialect.name not in _OWN_THREADS
