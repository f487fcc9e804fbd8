"""*hashing*: what digesting a row costs, by its size, with every digest that is sound enough."""

from __future__ import annotations

import hashlib
import os
import timeit
from collections.abc import Callable

from blake3 import blake3

from benchmarks.scenarios import Report, at_most

SIZES = (16, 256, 3 << 10, 64 << 10, 600 << 10, 3 << 20)
KEY = os.urandom(32)
_BLAKE2B, _BLAKE3, _SHA256 = hashlib.blake2b(key=KEY, digest_size=16), blake3(key=KEY), hashlib.sha256(KEY)


def _blake2b(row: bytes) -> bytes:
    own = _BLAKE2B.copy()
    own.update(row)
    return own.digest()


def _sha256(row: bytes) -> bytes:
    own = _SHA256.copy()
    own.update(row)
    return own.digest()


def _blake3(row: bytes) -> bytes:
    own = _BLAKE3.copy()
    own.update(row)
    return own.digest(16)


WAYS: dict[str, Callable[[bytes], bytes]] = {"blake2b": _blake2b, "sha256": _sha256, "BLAKE3": _blake3}


def hashing(rounds: int) -> Report:
    """Microseconds for a row, the state keyed before."""
    rows: list[list[str | float]] = []
    for size in SIZES:
        row = os.urandom(size)
        times = max(3, 20_000_000 // (size + 5000))
        rows.append([f"{size:,}"])
        for way in WAYS.values():
            seen = timeit.repeat(lambda way=way, row=row: way(row), number=times, repeat=rounds)  # type: ignore[misc]
            rows[-1].append(1e6 * min(seen) / times)
    small, large = rows[0], rows[-1]
    return Report(
        "hashing: microseconds to digest one row, keyed",
        ["bytes", *WAYS],
        rows,
        [
            at_most("BLAKE3 over the faster of the others, 16 bytes", _ratio(small), 2.0),
            at_most("BLAKE3 over the faster of the others, 3 MiB", _ratio(large), 1.0),
        ],
    )


def _ratio(row: list[str | float]) -> float:
    blake2b, sha256, ours = (float(cell) for cell in row[1:])
    return ours / min(blake2b, sha256)
