"""Ways to spoil bytes: all of them drawn from one seeded source, so that what was found can be made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NOTABLE = (
    b"",
    b"\0",
    b"\r\n",
    b"\n\n",
    b"\xff\xfe",
    b"\xd5",
    b"\xed\xa0\x80",
    b"%00",
    b"%ff",
    b"%",
    b"../",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[[[[[[[[",
    b'{"":{',
    b"99999999999999999999999999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"0x10",
    "\u202e\ud83d\ude00".encode("utf-8", "surrogatepass"),
    b"A" * 300,
)
SCALARS: Sequence[Any] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    1.5,
    1e308,
    -0.0,
    "",
    "x",
    "\u0000",
    "NaN",
    "🙂",
    "a" * 300,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"b64": "!"},
    {"b64": "AAAA"},
)
WORDS = (
    "x", "y", "a", "b", "name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "instances",
    "examples", "id", "model",
    "input", "dimensions", "encoding_format", "signature_name", "binary_data", "binary_data_size",
    "binary_data_output", "classification",
    "priority", "timeout", "sequence_id", "b64", "FP32", "INT64", "BYTES", "BOOL", "FP16", "BF16", "UINT8", "context",
    "base64",
)  # fmt: skip


def spoiled(chance: Random, data: bytes) -> bytes:
    """The bytes with one to four faults: turned, cut, doubled, swapped, put in."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(out) + 1)
        chance.choice(_SPOILERS)(chance, out, at)
    return bytes(out)


def _turn(chance: Random, out: bytearray, at: int) -> None:
    if at < len(out):
        out[at] ^= 1 << chance.randrange(8)


def _replace(chance: Random, out: bytearray, at: int) -> None:
    if at < len(out):
        out[at] = chance.randrange(256)


def _cut(chance: Random, out: bytearray, at: int) -> None:
    del out[at : at + chance.choice((1, 2, 8, 64, len(out)))]


def _double(chance: Random, out: bytearray, at: int) -> None:
    out[at:at] = out[at : at + chance.choice((1, 4, 32, 256))]


def _put_in(chance: Random, out: bytearray, at: int) -> None:
    out[at:at] = chance.choice(NOTABLE)


def _noise(chance: Random, out: bytearray, at: int) -> None:
    out[at:at] = chance.randbytes(chance.choice((1, 2, 9, 40)))


_SPOILERS: Sequence[Callable[[Random, bytearray, int], None]] = (_turn, _turn, _replace, _cut, _double, _put_in, _noise)


def twisted(chance: Random, value: Any) -> Any:
    """A JSON value of another structure: a place in it is changed, taken out, wrapped, repeated or renamed."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        turn = chance.randrange(8)
        if turn == 0:
            return {name: inner for name, inner in value.items() if name != key}
        if turn == 1:
            return {**value, chance.choice(WORDS): chance.choice(SCALARS)}
        if turn == 2:
            return {(chance.choice(WORDS) if name == key else name): inner for name, inner in value.items()}
        return {**value, key: twisted(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        turn = chance.randrange(8)
        if turn == 0:
            return value[:at] + value[at + 1 :]
        if turn == 1:
            return value * chance.choice((0, 2, 3, 50))
        if turn == 2:
            return [*value, chance.choice(SCALARS)]
        return [*value[:at], twisted(chance, value[at]), *value[at + 1 :]]
    turn = chance.randrange(10)
    if turn == 0:
        return [value]
    if turn == 1:
        return {chance.choice(WORDS): value}
    if turn == 2:
        return chance.choice(WORDS)
    if turn == 3:
        return _nested(chance, value)
    return chance.choice(SCALARS)


def json_bytes(chance: Random, value: Any) -> bytes:
    """JSON as its writers differ: with blanks, with escapes, and with what is no JSON to some."""
    turn = chance.randrange(6)
    written = json.dumps(value, indent=1 if turn == 0 else None, ensure_ascii=turn != 1, separators=None)
    return written.encode("utf-8", "surrogatepass")


def _nested(chance: Random, value: Any) -> Any:
    for _ in range(chance.choice((2, 5, 40, 200))):
        value = [value] if chance.random() < 0.7 else {"a": value}
    return value
