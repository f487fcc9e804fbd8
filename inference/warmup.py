"""Trying a freshly loaded model, before it serves: it is warm then, and known to keep rows apart or not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from inference.backends.base import Backend
from inference.errors import ModelFailed
from inference.types import STORAGE, Array, Arrays, Datatype, Signature, TensorSpec


class Trial(msgspec.Struct, frozen=True):
    """What came of it. `unbatched_because` is `None` where the signature is batched."""

    signature: Signature
    unbatched_because: str | None


def try_out(backend: Backend) -> Trial:
    """Runs zeros, one row of them and then two, and holds the shapes of the outputs against the declared ones.

    A model that refuses zeros altogether is believed what it declares. Axes of any size, other than axis 0, are tried
    with size 1.
    """
    names = [spec.name for spec in backend.outputs]
    try:
        one: Arrays | None = backend.run(_zeros(backend.inputs, rows=1), names)
    except ModelFailed:
        one = None
    outputs = backend.outputs if one is None else _with_known_rank(backend.outputs, one)
    reason = _declared_unbatched(backend.inputs, outputs)
    if reason is None and one is not None:
        reason = _rows_lost(outputs, one, rows=1) or _two_rows_fail(backend, outputs)
    return Trial(Signature(backend.inputs, outputs, reason is None), reason)


def _zeros(specs: Sequence[TensorSpec], rows: int) -> Arrays:
    return tuple([_zero(spec, rows) for spec in specs])


def _zero(spec: TensorSpec, rows: int) -> Array:
    shape = [(rows if axis == 0 else 1) if size is None else size for axis, size in enumerate(spec.shape)]
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, STORAGE[spec.datatype])


def _with_known_rank(specs: Sequence[TensorSpec], arrays: Arrays) -> tuple[TensorSpec, ...]:
    """The specs, with axes of any size for an output whose rank the engine could not tell and a run showed."""
    return tuple(
        [
            TensorSpec(spec.name, spec.datatype, (None,) * array.ndim) if not spec.shape else spec
            for spec, array in zip(specs, arrays, strict=True)
        ]
    )


def _declared_unbatched(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    if not inputs:
        return "the model has no inputs"
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if not spec.shape:
                return f"{kind} {spec.name!r} is a single value, without an axis for rows"
            if spec.shape[0] is not None:
                return f"axis 0 of {kind} {spec.name!r} has the fixed size {spec.shape[0]}"
    return None


def _rows_lost(specs: Sequence[TensorSpec], arrays: Arrays, rows: int) -> str | None:
    for spec, array in zip(specs, arrays, strict=True):
        if not array.ndim or array.shape[0] != rows:
            size = array.shape[0] if array.ndim else "no"
            return f"axis 0 of output {spec.name!r} does not follow the rows: {rows} in, {size} out"
    return None


def _two_rows_fail(backend: Backend, outputs: Sequence[TensorSpec]) -> str | None:
    try:
        two = backend.run(_zeros(backend.inputs, rows=2), [spec.name for spec in outputs])
    except ModelFailed as error:
        return f"the model takes one row but not two: {error}"
    return _rows_lost(outputs, two, rows=2)
