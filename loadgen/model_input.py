"""Random input for a model, from what its server says about it (`GET /v2/models/NAME`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from sluice.inference.errors import StartError
from sluice.inference.types import Datatype
from sluice.loadgen.generator import reason
from sluice.loadgen.target import Target

MOST_METADATA_BYTES = 1 << 20
MOST_ELEMENTS = 1 << 24
"""Of one input."""

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
LARGEST_INTEGER = 100
"""Whole numbers are drawn from 0 to one less: they may be indices, and every table has that many entries or is made
for the test. For a model that takes others, give the body in a file."""


class Input(msgspec.Struct, frozen=True):
    """One input as the metadata has it. -1 in `shape` is an axis of any length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Metadata(msgspec.Struct, frozen=True):
    """What is needed of a model's metadata."""

    inputs: tuple[Input, ...]


def model_path(where: Target, model: str) -> str:
    """The path of a model, below the one that was named with the server."""
    if "?" in where.path:
        raise StartError(f"{where.path!r}: with --model, the URL is that of the server, without a query")
    return f"{where.path.rstrip('/')}/v2/models/{quote(model, safe='')}"


def metadata(where: Target, model: str, headers: Mapping[str, str], timeout_s: float) -> Metadata:
    """What the server says about a model. Raises `StartError` if it does not."""
    path = model_path(where, model)
    if where.tls is None:
        connection = HTTPConnection(where.host, where.port, timeout=timeout_s)
    else:
        connection = HTTPSConnection(where.host, where.port, timeout=timeout_s, context=where.tls)
    try:
        connection.request("GET", path, headers={**headers})
        answer = connection.getresponse()
        status, body = answer.status, answer.read(MOST_METADATA_BYTES)
    except (OSError, HTTPException) as error:
        raise StartError(f"cannot connect to {where.address}: {reason(error)}") from error
    finally:
        connection.close()
    if status == 404:
        raise StartError(f"{where.address} knows no model {model!r}: GET {path} was answered with 404")
    if status != 200:
        raise StartError(f"GET {path} was answered with {status} and not with the model's metadata: {body[:200]!r}")
    try:
        return msgspec.json.decode(body, type=Metadata)
    except msgspec.DecodeError as error:
        raise StartError(f"GET {path} was not answered with a model's metadata: {error}") from error


def random_bodies(model: Metadata, rows: int, length: int, seed: int) -> Iterator[bytes]:
    """Requests of `rows` rows in the JSON of the Open Inference Protocol V2, without end, no two alike.

    Axes of any length but the first get `length`. Raises `StartError` for a model that does not take so many rows, and
    for input that would be too large.
    """
    shapes = [_shape(each, rows, length) for each in model.inputs]
    draw = np.random.default_rng(seed)
    while True:
        inputs = [
            {"name": each.name, "datatype": each.datatype, "shape": shape, "data": _data(each.datatype, shape, draw)}
            for each, shape in zip(model.inputs, shapes, strict=True)
        ]
        yield msgspec.json.encode({"inputs": inputs})


def _shape(wanted: Input, rows: int, length: int) -> Sequence[int]:
    first = wanted.shape[:1]
    if rows != 1 and first != (-1,) and first != (rows,):
        raise StartError(
            f"--rows {rows}: input {wanted.name!r} has the shape {list(wanted.shape)}, whose rows are given"
        )
    shape = [rows if axis == -1 else axis for axis in first] + [
        length if axis == -1 else axis for axis in wanted.shape[1:]
    ]
    if math.prod(shape) > MOST_ELEMENTS:
        raise StartError(f"input {wanted.name!r} would have the shape {shape}: more than {MOST_ELEMENTS:,} elements")
    return shape


def _data(datatype: Datatype, shape: Sequence[int], draw: np.random.Generator) -> list[Any]:
    size = math.prod(shape)
    match datatype:
        case Datatype.BYTES:
            return [WORDS[place] for place in draw.integers(len(WORDS), size=size)]
        case Datatype.BOOL:
            flags: list[Any] = draw.integers(2, size=size).astype(bool).tolist()
            return flags
        case Datatype.FP16 | Datatype.BF16 | Datatype.FP32 | Datatype.FP64:
            numbers: list[Any] = draw.standard_normal(size).round(4).tolist()
            return numbers
        case _:
            integers: list[Any] = draw.integers(LARGEST_INTEGER, size=size).tolist()
            return integers
