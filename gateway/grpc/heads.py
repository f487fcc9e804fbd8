"""The headers of calls: those of callers are read, and ours are encoded.

The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sluice.gateway.grpc.codes import Code
from sluice.gateway.messages import Header

PSEUDO = frozenset({b":method", b":path", b":scheme", b":authority"})
HOP_BY_HOP = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
FRAMING = frozenset({b"content-type", b"grpc-timeout", b"grpc-encoding"})
"""The headers that only the server reads."""

MEANINGLESS = frozenset({b"accept-encoding", b"content-encoding", b"content-length", b"te", b"grpc-accept-encoding"})
"""The headers that mean nothing to a method. gRPC compresses messages, not bodies."""

UNITS_S: Mapping[bytes, float] = {b"H": 3600, b"M": 60, b"S": 1, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

MAX_TOLD_BYTES = 4096
"""How much of `grpc-message` is sent. Clients accept 8 KiB of headers by default."""

REMEMBERED_NAMES = 1024
"""How many names of headers that were found valid are remembered."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_ILLEGAL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_PLAIN = re.compile(rb"[ -$&-~]*")

_good_names: set[bytes] = set()


class Malformed(Exception):
    """The headers break the rules of HTTP/2."""


class CallHead(msgspec.Struct, frozen=True):
    """The headers of a call, sorted. `metadata` is what its method sees."""

    method: bytes
    path: bytes
    content_type: bytes
    timeout: bytes | None
    encoding: bytes
    metadata: tuple[Header, ...]
    size_bytes: int

    @property
    def timeout_s(self) -> float | None:
        """How long the caller waits; `None`: without end. Raises `ValueError` for a `grpc-timeout` that is no time."""
        if self.timeout is None:
            return None
        match = _TIMEOUT.fullmatch(self.timeout)
        if match is None:
            raise ValueError("grpc-timeout is no time; expected up to eight digits and one of H, M, S, m, u, n")
        return int(match[1]) * UNITS_S[match[2]]


def head_of(headers: Iterable[Header]) -> CallHead:
    """Sort the headers of a call. Raises `Malformed`."""
    pseudo: dict[bytes, bytes] = {}
    framing: dict[bytes, bytes] = {}
    metadata: list[Header] = []
    values: list[bytes] = []
    size_bytes = 0
    for name, value in headers:
        size_bytes += len(name) + len(value) + 32  # as RFC 9113, section 6.5.2, counts
        if name[:1] == b":":
            if name not in PSEUDO or name in pseudo or metadata or framing:
                raise Malformed
            pseudo[name] = value
            continue
        if name not in _good_names:
            _check_name(name)
        values.append(value)
        if name in FRAMING:
            framing[name] = value
        elif name not in MEANINGLESS and name[-4:] != b"-bin":
            metadata.append((name, value))
    if b":path" not in pseudo or b":method" not in pseudo or _ILLEGAL.search(b"".join(values)):
        raise Malformed
    return CallHead(
        pseudo[b":method"],
        pseudo[b":path"],
        framing.get(b"content-type", b""),
        framing.get(b"grpc-timeout"),
        framing.get(b"grpc-encoding", b"identity"),
        tuple(metadata),
        size_bytes,
    )


def _check_name(name: bytes) -> None:
    if not _NAME.fullmatch(name) or name in HOP_BY_HOP:
        raise Malformed
    if len(_good_names) < REMEMBERED_NAMES and len(name) <= 64:
        _good_names.add(name)


def escaped(told: bytes) -> bytes:
    """A text percent-encoded for `grpc-message`, and cut to `MAX_TOLD_BYTES`."""
    told = told[:MAX_TOLD_BYTES]
    if _PLAIN.fullmatch(told):
        return told
    kept = bytearray()
    for byte in told:
        if 0x20 <= byte <= 0x7E and byte != 0x25:
            kept.append(byte)
        else:
            kept += b"%%%02X" % byte
    return bytes(kept[:MAX_TOLD_BYTES])


ANSWER: Sequence[Header] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
WRONG_TYPE: Sequence[Header] = ((b":status", b"415"),)
WRONG_METHOD: Sequence[Header] = ((b":status", b"405"), (b"allow", b"POST"))
ENCODINGS: Header = (b"grpc-accept-encoding", b"identity,gzip,deflate")

_STATUS: Mapping[int, Header] = {code.value: (b"grpc-status", b"%d" % code) for code in Code}


def status_headers(code: int, told: bytes, trailing: tuple[Header, ...]) -> list[Header]:
    """The headers that end a call."""
    headers = [_STATUS[code]]
    if told:
        headers.append((b"grpc-message", escaped(told)))
    headers += trailing
    return headers


class PlainEncoder:
    """Header compression that compresses nothing: every field is a literal that is not indexed (RFC 7541, 6.2.2).

    It replaces `hpack.Encoder` in h2. Most of what we send is new each time: to look it up in tables and to encode it
    with Huffman's code took longer than everything else that is done for an answer. The first list of a connection sets
    the size of our table to 0, so that no table size that the client allows changes anything.
    """

    __slots__ = ("_known", "_prelude", "header_table_size")

    def __init__(self, known: dict[Header, bytes]) -> None:
        self._known = known
        self._prelude = b"\x20"
        self.header_table_size = 0

    def encode(self, headers: Iterable[Header]) -> bytes:
        """The header block for a list of headers."""
        known = self._known
        prelude, self._prelude = self._prelude, b""
        return prelude + b"".join([known.get(header) or _literal(header) for header in headers])


def _literal(header: Header) -> bytes:
    name, value = header
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    """A number with a prefix of seven bits (RFC 7541, 5.1)."""
    if size < 127:
        return size.to_bytes(1, "big")
    rest = bytearray(b"\x7f")
    size -= 127
    while size >= 128:
        rest.append(size & 127 | 128)
        size >>= 7
    rest.append(size)
    return bytes(rest)


KNOWN: dict[Header, bytes] = {
    header: _literal(header) for header in (*ANSWER, *WRONG_TYPE, *WRONG_METHOD, ENCODINGS, *_STATUS.values())
}
KNOWN[b":status", b"200"] = b"\x88"  # an entry of the static table
