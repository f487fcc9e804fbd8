"""The bundled models (`examples/models`) as a client sees them, and the rows that it sends them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from types import MappingProxyType

DIGITS_FILE = Path(__file__).with_name("payloads") / "digits.json"
BRIGHTEST = 16
KEPT_ROWS = 10_000

Row = tuple[float, ...]
"""The values of one row, in row-major order."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output. `row_shape` leaves the batch axis out; `datatype` is as the V2 protocol has it."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """What a model takes and gives. `row(k)` is the k-th of its rows: always the same, and another for every k."""

    name: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    row: Callable[[int], Row]


@cache
def _held_out_digits() -> list[list[int]]:
    images: list[list[int]] = json.loads(DIGITS_FILE.read_text())
    return images


@lru_cache(maxsize=KEPT_ROWS)
def digits_row(number: int) -> Row:
    """An image of 64 pixels that no training has seen, 0 to 16.

    There are 360. Each row after those is one of them with a grain of noise, as if it had been scanned a second time.
    """
    images = _held_out_digits()
    image = images[number % len(images)]
    if number < len(images):
        return tuple(image)
    grain = Random(number).getrandbits(len(image))
    return tuple(min(BRIGHTEST, pixel + (grain >> place & 1)) for place, pixel in enumerate(image))


def linear_row(number: int) -> Row:
    """One number, exact in float32."""
    return (number / 4,)


DIGITS = Model(
    name="digits",
    input=Tensor("pixels", "FP32", (64,)),
    outputs=(Tensor("label", "INT64", ()), Tensor("probabilities", "FP32", (10,))),
    row=digits_row,
)
LINEAR = Model(
    name="linear",
    input=Tensor("x", "FP32", (1,)),
    outputs=(Tensor("y", "FP32", (1,)),),
    row=linear_row,
)

MODELS: Mapping[str, Model] = MappingProxyType({each.name: each for each in (DIGITS, LINEAR)})
