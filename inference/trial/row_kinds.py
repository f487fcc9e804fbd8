"""The kinds of rows that a model is tried with. Each shows influences that the others would not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sluice.inference.trial.random_inputs import Range, RowKind
from sluice.inference.types import Array, Shape

SPARSE_PART = 0.05
"""The part of the elements of a sparse row that is not zero."""

WORDS = ("red", "apple", "Straße", "日本語", "stone,", "7", "-3.5", "über-lang" * 8)


def _normal(scale: float) -> Callable[[np.random.Generator, Shape], Array]:
    return lambda rng, shape: np.asarray(rng.standard_normal(shape, np.float32)) * np.float32(scale)


def _uniform(most: float) -> Callable[[np.random.Generator, Shape], Array]:
    return lambda rng, shape: np.asarray(rng.random(shape, np.float32)) * np.float32(most)


def _sparse_floats(rng: np.random.Generator, shape: Shape) -> Array:
    return np.where(_few(rng, shape), _normal(100.0)(rng, shape), np.float32(0.0))


def _of_every_size(rng: np.random.Generator, shape: Shape) -> Array:
    sizes: Array = np.float32(10.0) ** (_uniform(9.0)(rng, shape) - np.float32(3.0))
    return np.where(rng.integers(0, 2, shape), sizes, -sizes)


def _few(rng: np.random.Generator, shape: Shape) -> Array:
    """A mask of where a sparse row is not zero, which is at least one place."""
    few = np.asarray(rng.random(shape, np.float32)) < SPARSE_PART
    for row in few.reshape(shape[0] if shape else 1, -1):
        if row.size:
            row[rng.integers(row.size)] = True
    return few


def _bits(rng: np.random.Generator, shape: Shape, range_: Range) -> Array:
    return np.clip(rng.integers(0, 2, shape), range_.least, range_.most)


def _whole(rng: np.random.Generator, shape: Shape, range_: Range) -> Array:
    return rng.integers(range_.least, range_.most, shape, endpoint=True)


def _up_to(most: int) -> Callable[[np.random.Generator, Shape, Range], Array]:
    return lambda rng, shape, range_: np.clip(rng.integers(0, most + 1, shape), range_.least, range_.most)


def _ends(rng: np.random.Generator, shape: Shape, range_: Range) -> Array:
    return rng.choice((range_.least, range_.most, min(max(0, range_.least), range_.most)), shape)


def _logarithmic(rng: np.random.Generator, shape: Shape, range_: Range) -> Array:
    sizes = np.exp(rng.uniform(0.0, np.log(max(2, range_.most)), shape)).astype(np.int64)
    return np.clip(sizes, range_.least, range_.most)


def _sparse_integers(rng: np.random.Generator, shape: Shape, range_: Range) -> Array:
    return np.where(_few(rng, shape), _whole(rng, shape, range_), min(max(0, range_.least), range_.most))


def _one_word(rng: np.random.Generator, count: int) -> list[bytes]:
    return [WORDS[place].encode() for place in rng.integers(0, len(WORDS), count)]


def _words(most: int) -> Callable[[np.random.Generator, int], list[bytes]]:
    return lambda rng, count: [
        " ".join([WORDS[place] for place in rng.integers(0, len(WORDS), length)]).encode()
        for length in rng.integers(1, most + 1, count)
    ]


def _digits(rng: np.random.Generator, count: int) -> list[bytes]:
    return [b"%d" % digit for digit in rng.integers(0, 2, count)]


def _numbers(rng: np.random.Generator, count: int) -> list[bytes]:
    return [f"{number:.2f}".encode() for number in rng.standard_normal(count) * 1000.0]


def _mostly_empty(rng: np.random.Generator, count: int) -> list[bytes]:
    return [word if rng.uniform() < 0.3 else b"" for word in _words(3)(rng, count)]


KINDS = (
    RowKind("plain", 1.0, _normal(1.0), _bits, _digits),
    RowKind("wide", 10.0, _normal(10.0), _whole, _words(12)),
    RowKind("like pictures", 255.0, _uniform(255.0), _up_to(255), _one_word),
    RowKind("sparse", 255.0, _sparse_floats, _sparse_integers, _mostly_empty),
    RowKind("small", 1.0, _normal(1e-3), _up_to(9), _one_word),
    RowKind("positive", 1.0, _uniform(1.0), _up_to(2), _digits),
    RowKind("large", 1e4, _normal(1e4), _ends, _numbers),
    RowKind("huge", 1e6, _normal(1e6), _logarithmic, _words(100)),
    RowKind("of every size", 1e6, _of_every_size, _whole, _words(3)),
)
"""In the order in which they are tried. The first ones tell most, if there is no time for all. Large values come late,
because they make some models do more work, such as those that cut regions out of pictures."""

PLAIN = KINDS[0]
