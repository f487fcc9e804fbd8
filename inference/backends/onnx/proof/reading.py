"""Reads the graph of an ONNX file without its weights: large payloads are cut out before anything is parsed.

Source: onnx-ml.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto) and the encoding of protocol buffers
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from sluice.inference.backends.onnx.proof.structure_pb2 import Model

LARGE_BYTES = 4096
"""Messages up to this size are kept whole. Shapes, axes and scales are smaller; weights are larger."""

SKELETON_BYTES = 64 << 20
"""The largest structure that is parsed. A graph of 20,000 nodes has some 5 MB."""

_CUT = bytes([0x80, 0xB5, 0x18, 1])
"""The encoded field `cut = true` of an attribute: field 50000, a varint, 1."""

DEEPEST = 64
"""The deepest nesting of graphs, counted in messages; the parser refuses deeper ones, too."""

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5

# The messages that lead to payloads, by field number.
_WITHIN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_PAYLOADS: Mapping[str, frozenset[int]] = {
    "Attribute": frozenset({4, 7, 8, 9}),
    "Tensor": frozenset({4, 5, 6, 7, 9, 10, 11}),
    "Model": frozenset({14, 20}),  # metadata, training
    "Graph": frozenset({10, 13, 14}),  # words, shapes that somebody inferred, quantisation
}


class Unreadable(Exception):
    """The file is no ONNX model, or exceeds a bound. The message says which."""


def read_structure(file: Path) -> Model:
    """The graph, functions and small constants of a model. Raises `Unreadable`.

    Payloads of more than `LARGE_BYTES` are left out: such a tensor has its `dims` and no data; such an attribute has
    its name, and `cut` is set. Weights are neither read nor copied.
    """
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            if not size:
                raise Unreadable("the file is empty")
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                skeleton = bytes(_Skeleton(content).of("Model", 0, size, 0))
        return Model.FromString(skeleton)
    except (OSError, ValueError, IndexError, DecodeError) as error:
        raise Unreadable(f"the file cannot be read as an ONNX model: {error}") from error


class _Skeleton:
    """Copies a message, without its payloads."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._kept = 0

    def of(self, message: str, start: int, end: int, depth: int) -> bytearray:
        """The copied message. Raises `Unreadable`, and `ValueError` or `IndexError` if it is no valid message."""
        if depth > DEEPEST:
            raise Unreadable(f"its graphs lie more than {DEEPEST} messages deep in one another")
        within, payloads = _WITHIN[message], _PAYLOADS.get(message, frozenset())
        copied = bytearray()
        content = self._content
        at = kept_from = start
        while at < end:
            field_at = at
            tag, at = self._varint(at)
            kind, number = tag & 7, tag >> 3
            if number in payloads and kind != _DELIMITED and end - start > LARGE_BYTES:
                if content[start] >> 3 != 1:
                    raise Unreadable("the elements of a tensor or attribute come before its shape or name")
                copied += content[kept_from:field_at]
                return copied + _marked(message)  # millions of elements may follow, each a field of its own
            if kind == _VARINT:
                _, at = self._varint(at)
            elif kind == _DELIMITED:
                size, at = self._varint(at)
                begin, at = at, at + size
                if at > end:
                    raise ValueError("a message ends before its last field")
                if size <= LARGE_BYTES:
                    continue
                if number in within:
                    copied += content[kept_from:field_at]
                    inner = self.of(within[number], begin, at, depth + 1)
                    copied += _encoded(tag) + _encoded(len(inner)) + inner
                    kept_from = at
                elif number in payloads:
                    copied += content[kept_from:field_at] + _marked(message)
                    kept_from = at
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                at += 8 if kind == _EIGHT_BYTES else 4
            else:
                raise ValueError(f"there is no kind of field {kind}")
        if at != end:
            raise ValueError("a message ends in the middle of a field")
        copied += content[kept_from:end]
        self._kept += len(copied)
        if self._kept > SKELETON_BYTES:
            raise Unreadable(f"its structure alone has more than {SKELETON_BYTES >> 20} MiB")
        return copied

    def _varint(self, at: int) -> tuple[int, int]:
        content = self._content
        byte = content[at]
        at += 1
        if byte < 0x80:
            return byte, at
        value, shift = byte & 0x7F, 7
        while shift < 70:
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise ValueError("an integer of more than ten bytes")


def _marked(message: str) -> bytes:
    """The bytes that replace a payload that is left out."""
    return _CUT if message == "Attribute" else b""


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
