"""Trying a freshly loaded model, before it serves: it is warm then, and known to keep rows apart or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from inference.backends.base import Backend
from inference.errors import ModelFailed, ModelLoadError
from inference.rows import Verdict, rows_lost, rows_mixed
from inference.types import STORAGE, Array, Arrays, Datatype, Signature, TensorSpec

TOLD = "model.toml or the settings say so"

Batched: TypeAlias = bool | Literal["unchecked"] | None
"""The operator's word on the batch axis. `None`: find out. True: requests must be batched, and a model that cannot be
is refused. "unchecked": rows are not compared, but declared and observed shapes still count. False: each runs alone."""


class Trial(msgspec.Struct, frozen=True):
    """What came of it. `unbatched_because` is `None` where the signature is batched.

    `untried_because` has the engine's words where it refused zeros, and `None` where it took them. `unproven_because`
    says why it is not known that a batched model keeps its rows apart; `None` where it is, or was not to be found out.
    """

    signature: Signature
    unbatched_because: str | None
    untried_because: str | None
    unproven_because: str | None = None


def try_out(backend: Backend, batched: Batched = None) -> Trial:
    """Runs zeros, one row of them and then two, then different rows alone and together, and compares what comes out.

    Axes of any size, other than axis 0, have size 1 with zeros, and the sizes of `rows.OPEN_SIZES` with the rest. A
    model that refuses what it is given is believed what it declares. Raises `ModelLoadError` where `batched` is true
    and the model cannot be batched.
    """
    names = [spec.name for spec in backend.outputs]
    one: Arrays | None = None
    untried: str | None = None
    try:
        one = backend.run(_zeros(backend.inputs, rows=1), names)
    except ModelFailed as error:
        untried = str(error)
    outputs = backend.outputs if one is None else _with_known_rank(backend.outputs, one)
    reason = TOLD if batched is False else _declared_unbatched(backend.inputs, outputs)
    if reason is None and one is not None:
        reason = rows_lost(outputs, one, rows=1) or _two_rows_fail(backend, outputs)
    verdict = Verdict()
    if reason is None and batched in (None, True):
        verdict = rows_mixed(backend, outputs)
        reason = verdict.mixed_because
    if reason is not None and batched is True:
        raise _not_to_be_batched(reason)
    return Trial(Signature(backend.inputs, outputs, reason is None), reason, untried, verdict.unproven_because)


def known(signature: Signature) -> Batched:
    """What to say of the same model the next time, so that it need not be found out again."""
    return "unchecked" if signature.batched else False


def _not_to_be_batched(reason: str) -> ModelLoadError:
    return ModelLoadError(
        f"batching.batched = true demands that requests share batches, but {reason}. Leave batching.batched unset to "
        'serve the model without batching, or set it to "unchecked" if its rows are known to be independent'
    )


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


def _two_rows_fail(backend: Backend, outputs: Sequence[TensorSpec]) -> str | None:
    try:
        two = backend.run(_zeros(backend.inputs, rows=2), [spec.name for spec in outputs])
    except ModelFailed as error:
        return f"the model takes one row but not two: {error}"
    return rows_lost(outputs, two, rows=2)
