"""Checking a request's tensors against a model's signature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Arrays, Shape, Signature, Tensor, TensorSpec

SHOWN, NAME_CHARACTERS = 8, 128
"""How many names from a request an error message shows for each kind of fault, and how many characters of each."""


def conform(signature: Signature, tensors: Sequence[Tensor]) -> Arrays:
    """The tensors' arrays in the signature's order, after a check that the model takes them.

    Raises `InvalidRequest`, naming the input and what was expected: for a missing, unknown or repeated input, a wrong
    datatype, a wrong rank, a wrong size on a fixed axis, and inputs of a batched model with different numbers of rows.
    """
    specs = signature.inputs
    if len(tensors) != len(specs):
        raise _wrong_names(signature, tensors)
    arrays = []
    for place, spec in enumerate(specs):
        tensor = tensors[place]
        if tensor.name != spec.name:
            tensor = _named(spec.name, signature, tensors)
        array = tensor.array
        if tensor.datatype is not spec.datatype:
            raise InvalidRequest(f"input {spec.name!r} has datatype {tensor.datatype}; expected {spec.datatype}")
        if not fits(array.shape, spec.shape):
            raise InvalidRequest(
                f"input {spec.name!r} has shape {shape_text(array.shape)}; expected {shape_text(spec.shape)}"
            )
        arrays.append(array)
    if signature.batched and len(arrays) > 1 and len({array.shape[0] for array in arrays}) > 1:
        rows = ", ".join(f"{s.name!r}: {a.shape[0]}" for s, a in zip(signature.inputs, arrays, strict=True))
        raise InvalidRequest(f"inputs have different numbers of rows ({rows}); axis 0 must be equal for all of them")
    return tuple(arrays)


class SignatureCheck:
    """Checks requests against one signature: `conform`, `row_count` and `shape_key` in one call.

    Most models are batched and have one input whose other axes are fixed. All their requests have one shape key, so one
    comparison of the name, the datatype and the shape is enough. A request that fails it is checked in full.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._only: TensorSpec | None = None
        self._row_shape: tuple[int | None, ...] = ()
        if signature.batched and len(signature.inputs) == 1:
            (spec,) = signature.inputs
            self._row_shape = spec.shape[1:]
            self._only = spec if None not in self._row_shape else None

    def take(self, tensors: Sequence[Tensor]) -> tuple[Arrays, int, tuple[Shape, ...]]:
        """The arrays in the signature's order, their rows, and their shape key. Raises as `conform` does."""
        only = self._only
        if only is not None and len(tensors) == 1:
            tensor = tensors[0]
            shape = tensor.array.shape
            if tensor.name == only.name and tensor.datatype is only.datatype and shape and shape[1:] == self._row_shape:
                return (tensor.array,), shape[0], (shape[1:],)
        arrays = conform(self._signature, tensors)
        return arrays, row_count(self._signature, arrays), shape_key(self._signature, arrays)


def row_count(signature: Signature, arrays: Arrays) -> int:
    """The number of rows in a request: the size of the batch axis, or 1 for a model that is not batched."""
    return int(arrays[0].shape[0]) if signature.batched else 1


def shape_key(signature: Signature, arrays: Arrays) -> tuple[Shape, ...]:
    """The sizes of all axes but the batch axis, input by input. Equal for requests whose rows can be stacked."""
    if signature.batched:
        return tuple([array.shape[1:] for array in arrays])
    return tuple([array.shape for array in arrays])


def fits(shape: Shape, expected: tuple[int | None, ...]) -> bool:
    """Whether a shape matches an expected one, in which `None` stands for any size."""
    if len(shape) != len(expected):
        return False
    for size, want in zip(shape, expected, strict=True):  # noqa: SIM110 - a generator would cost three times as much
        if size != want and want is not None:
            return False
    return True


def shape_text(shape: tuple[int | None, ...]) -> str:
    """`[*, 4]` for `(None, 4)`."""
    return "[" + ", ".join("*" if size is None else str(size) for size in shape) + "]"


def _named(name: str, signature: Signature, tensors: Sequence[Tensor]) -> Tensor:
    found = [tensor for tensor in tensors if tensor.name == name]
    if len(found) != 1:
        raise _wrong_names(signature, tensors)
    return found[0]


def _wrong_names(signature: Signature, tensors: Sequence[Tensor]) -> InvalidRequest:
    expected = {spec.name for spec in signature.inputs}
    given = Counter([tensor.name for tensor in tensors])
    faults = [f"missing {spec.name!r}" for spec in signature.inputs if spec.name not in given]
    faults += [
        f"unknown {shown_name(name)}" for name in islice((each for each in given if each not in expected), SHOWN)
    ]
    faults += [f"repeated {shown_name(name)}" for name in islice((each for each in given if given[each] > 1), SHOWN)]
    return InvalidRequest(f"wrong inputs: {', '.join(faults)}; expected {_listed(signature.inputs)}")


def shown_name(name: str) -> str:
    """A name from a request as error messages show it: quoted, and cut to `NAME_CHARACTERS`."""
    return repr(name if len(name) <= NAME_CHARACTERS else f"{name[:NAME_CHARACTERS]}...")


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} ({spec.datatype} {shape_text(spec.shape)})" for spec in specs)
