"""How much one request may ask for: checked before anything is done for each of its rows.

These are the bounds of a decoded request and of its answer; `formats/body_bounds.py` has those of a body while it is
read. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import msgspec

from sluice.gateway.dialects.formats.body_bounds import MAX_TEXTS, too_many_rows, too_many_texts
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.signature import shown_name
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, Parameters, Signature, Tensor, TensorSpec

MAX_PARAMETERS, MAX_PARAMETER_CHARACTERS = 1024, 8 << 20
"""Parameters of one request, at most, and how many characters their names and texts may have together. They are a part
of the key by which the cache has the answer."""


class RequestBounds(msgspec.Struct, frozen=True):
    """The bounds of one model version.

    `output_bytes` has the size of one row of each output, or of the whole output if the model is not batched. It is
    `None` where the size is known only once the model has answered.
    """

    batched: bool
    max_rows: int
    max_answer_bytes: int
    output_bytes: Mapping[str, int | None]

    @property
    def sure_rows(self) -> int:
        """With this many rows or fewer, neither the request nor an answer of known size can be too large."""
        all_bytes = sum([size or 0 for size in self.output_bytes.values()])
        return min(self.max_rows, self.max_answer_bytes // max(1, all_bytes))

    def check_rows(self, rows: int) -> None:
        """Raise `RequestTooLarge` for more rows than one request may have."""
        if rows > self.max_rows:
            raise too_many_rows("the request", rows, self.max_rows)

    def check_parameters(self, parameters: Parameters) -> None:
        """Raise `RequestTooLarge` for more parameters than one request may have, `InvalidRequest` for huge numbers.

        Hashing longer ones would take long, and no model uses them.
        """
        if len(parameters) > MAX_PARAMETERS:
            raise too_many_parameters(len(parameters))
        texts = [*parameters, *[value for value in parameters.values() if isinstance(value, str)]]
        if (characters := sum(map(len, texts))) > MAX_PARAMETER_CHARACTERS:
            raise RequestTooLarge(
                f"the request's parameters have {characters} characters; all together may have at most "
                f"{MAX_PARAMETER_CHARACTERS}"
            )
        for name, value in parameters.items():
            if type(value) is int and not -(1 << 63) <= value < 1 << 64:
                raise InvalidRequest(f"parameter {shown_name(name)} is a whole number of more than 64 bits")

    def check_texts(self, inputs: Arrays) -> None:
        """Raise `RequestTooLarge` for more BYTES elements than one request may have."""
        texts = sum([array.size for array in inputs if array.dtype.hasobject])
        if texts > MAX_TEXTS:
            raise too_many_texts("the request", texts)

    def check_answer(self, rows: int, outputs: Sequence[str]) -> None:
        """Raise `RequestTooLarge` for an answer that will be larger than it may be, before it is computed."""
        row_bytes = sum([self.output_bytes[name] or 0 for name in outputs])
        if rows * row_bytes > self.max_answer_bytes:
            raise RequestTooLarge(
                f"the answer would have {rows * row_bytes} bytes; it may have at most {self.max_answer_bytes} "
                f"(server.max_answer_bytes): {self._what_fits(row_bytes)}"
            )

    def check_outputs(self, size_bytes: int) -> None:
        """Raise `RequestTooLarge` for a computed answer that is larger than it may be."""
        if size_bytes > self.max_answer_bytes:
            raise RequestTooLarge(
                f"the answer has {size_bytes} bytes; it may have at most {self.max_answer_bytes} "
                "(server.max_answer_bytes): send fewer rows, or ask for fewer outputs"
            )

    def knows(self, outputs: Sequence[str]) -> bool:
        """Whether the size of these outputs is known before the model has answered."""
        return all([self.output_bytes[name] is not None for name in outputs])

    def places(self, tensors: Sequence[Tensor]) -> int:
        """Rows that a part of a request counts as, before it is checked against the signature; at least one."""
        if not self.batched:
            return 1
        return max([tensor.array.shape[0] for tensor in tensors if tensor.array.ndim], default=1) or 1

    def _what_fits(self, row_bytes: int) -> str:
        fitting = self.max_answer_bytes // row_bytes if self.batched else 0
        return f"send at most {fitting} rows, or ask for fewer outputs" if fitting else "ask for fewer outputs"


def request_bounds(signature: Signature, *, max_rows: int, max_queue_rows: int, max_answer_bytes: int) -> RequestBounds:
    """The bounds of a version with this signature: what the server allows, and no more than the queue takes."""
    return RequestBounds(
        signature.batched,
        min(max_rows, max_queue_rows),
        max_answer_bytes,
        {spec.name: _output_bytes(spec, batched=signature.batched) for spec in signature.outputs},
    )


def too_many_parameters(count: int) -> RequestTooLarge:
    """The refusal of a request with more parameters than a request may have."""
    return RequestTooLarge(f"the request has {count} parameters; it may have at most {MAX_PARAMETERS}")


def tensor_bytes(array: Array, start: int, stop: int) -> int:
    """The memory that elements `start` to `stop` of a flat array take, including the content of BYTES."""
    part = array[start:stop]
    return part.nbytes + (sum(map(len, part.tolist())) if part.dtype.hasobject else 0)


def _output_bytes(spec: TensorSpec, *, batched: bool) -> int | None:
    sizes = spec.shape[1:] if batched else spec.shape
    if not spec.shape or spec.datatype is Datatype.BYTES or None in sizes:
        return None
    return prod([size for size in sizes if size is not None]) * STORAGE[spec.datatype].itemsize
