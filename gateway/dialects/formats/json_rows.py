"""Reads long nested lists without a stated shape a piece at a time: the same as `json_nested` reads shorter ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sluice.gateway.dialects.formats.json_nested import parsed_json, tensor_from_nested, tensor_from_text
from sluice.gateway.dialects.formats.json_pieces import Gathering, commas_in
from sluice.gateway.dialects.formats.json_views import is_list
from sluice.inference.types import Array, Tensor, TensorSpec


def tensor_from_list(spec: TensorSpec, text: memoryview, max_rows: int | None) -> Tensor:
    """The tensor in a text of nested lists. Raises `InvalidRequest`, and `RequestTooLarge` for too many rows.

    Raises `NotJson` also for JSON that cannot be cut into pieces.
    """
    gathering = Gathering((spec,), commas_in(text) + 1, max_rows)
    gathering.read(
        text, lambda piece, level: (_array(TensorSpec(spec.name, spec.datatype, spec.shape[level:]), piece),)
    )
    return gathering.tensors()[0]


def column_of(spec: TensorSpec, text: memoryview, max_rows: int | None) -> Tensor:
    """A whole tensor in the text of any JSON value. Raises as `tensor_from_list` does."""
    if is_list(text):
        return tensor_from_list(spec, text, max_rows)
    return tensor_from_nested(spec, parsed_json(bytes(text)))


def tensors_from_rows(
    specs: Sequence[TensorSpec],
    text: memoryview,
    max_rows: int | None,
    read: Callable[[list[Any]], Sequence[Tensor]],
) -> tuple[Tensor, ...]:
    """The tensors in a list of rows that are objects; `read` makes tensors out of some parsed rows.

    Raises as `tensor_from_list` does.
    """
    gathering = Gathering(specs, commas_in(text) + 1, max_rows)
    gathering.read(text, lambda piece, _: [tensor.array for tensor in read(parsed_json(piece))])
    return gathering.tensors()


def _array(spec: TensorSpec, piece: bytes) -> Array:
    return (tensor_from_text(spec, piece) or tensor_from_nested(spec, parsed_json(piece))).array
