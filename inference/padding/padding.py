"""Padding: inputs of varying length are filled up to a few lengths, so that requests can share a batch.

`Padding` is made once for a model, from its signature and what `model.toml` says under `[padding]`. Each request is
padded before its shape key is taken, and its outputs are cut back once they are there. Pure: arrays in, arrays out.
See docs/padding.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec
import numpy as np

from sluice.inference.config.model_config import PaddingConfig
from sluice.inference.errors import InvalidRequest, ModelFailed, RequestTooLarge
from sluice.inference.padding.rules import CutRule, PadRule, resolve
from sluice.inference.types import Array, Arrays, Signature


class Length(msgspec.Struct, frozen=True):
    """How long an input was when it was sent, and how long the model saw it."""

    sent: int
    padded: int


class Cut(msgspec.Struct, frozen=True):
    """What is known of one request that was padded: enough to cut its outputs back, and to count the waste.

    `lengths` has one entry for each padded input that has buckets, in the order of the signature. The elements are
    those of all padded inputs together: `own_elements` as sent, `added_elements` what padding put behind them. An input
    that needed no padding counts with its own elements.
    """

    lengths: tuple[Length, ...]
    own_elements: int
    added_elements: int

    @property
    def is_padded(self) -> bool:
        """Whether any input has become longer."""
        return any([length.sent != length.padded for length in self.lengths])


class Padding:
    """Pads requests for one model and cuts their outputs back.

    An input goes to the smallest of its buckets that holds it; inputs with buckets of their own go each to theirs. One
    that is longer than its largest bucket stays as long as it is. So the shapes that the model sees have bucket lengths
    only, or greater ones. Elements are added behind the caller's own, never before them.

    A request is padded only if the queue could take it afterwards: `max_rows` and `max_bytes` are the queue's bounds.
    Without them, a request with rows of no length, which takes no bytes to send, could ask for any amount of memory.

    Raises `RepositoryError` with every fault where the configuration does not suit the signature.
    """

    uncut: tuple[str, ...]
    """Outputs that have an axis of any size and are not cut. If one of them follows a padded length, its callers get
    padded answers, so the operator had better be told."""

    def __init__(self, signature: Signature, config: PaddingConfig, *, max_rows: int, max_bytes: int) -> None:
        rules = resolve(signature, config)
        self._pads = rules.pads
        self._cuts: dict[str, CutRule] = {rule.name: rule for rule in rules.cuts}
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.uncut = tuple(
            [spec.name for spec in signature.outputs if spec.name not in config.outputs and None in spec.shape[1:]]
        )

    def measure(self, arrays: Arrays) -> tuple[Cut, int]:
        """What is to be padded, and the bytes of the padded inputs: known before any memory is asked for.

        `arrays` conform to the signature and are in its order. Raises `InvalidRequest` where inputs that are to be
        equally long are not, and `RequestTooLarge` for what would not fit into an empty queue once it is padded.
        """
        lengths: list[Length] = []
        padded_bytes = own_elements = added_elements = 0
        for rule in self._pads:
            array = arrays[rule.place]
            sent = array.shape[rule.axis]
            if rule.leads:
                lengths.append(Length(sent, _bucket(rule.buckets, sent)))
            length = lengths[rule.group]
            if sent != length.sent:
                raise self._unequal(rule, sent, length.sent)
            elements = array.size if sent == length.padded else _elements(array, rule.axis, length.padded)
            padded_bytes += elements * array.dtype.itemsize
            own_elements += array.size
            added_elements += elements - array.size
        cut = Cut(tuple(lengths), own_elements, added_elements)
        if cut.is_padded:
            self._check_size(arrays[0].shape[0], padded_bytes)
        return cut, padded_bytes

    def pad(self, arrays: Arrays) -> tuple[Arrays, Cut]:
        """The arrays with padded lengths, and what was done. Raises as `measure`.

        What needs no padding is passed on, not copied.
        """
        cut, _ = self.measure(arrays)
        return self.padded(arrays, cut), cut

    def padded(self, arrays: Arrays, cut: Cut) -> Arrays:
        """The arrays with padded lengths, as they were measured."""
        padded = self.room(arrays, cut)
        self.fill(arrays, padded, cut, 0, len(arrays[0]))
        return padded

    def room(self, arrays: Arrays, cut: Cut) -> Arrays:
        """The memory for padded arrays, which is to be filled; what needs no padding is passed on."""
        room = list(arrays)
        for rule in self._pads:
            length = cut.lengths[rule.group]
            if length.sent != length.padded:
                array = arrays[rule.place]
                shape = (*array.shape[: rule.axis], length.padded, *array.shape[rule.axis + 1 :])
                room[rule.place] = np.empty(shape, array.dtype)
        return tuple(room)

    def fill(self, arrays: Arrays, room: Arrays, cut: Cut, start: int, stop: int) -> None:
        """Write these rows of the padded arrays, every element once."""
        for rule in self._pads:
            length = cut.lengths[rule.group]
            if length.sent != length.padded:
                before, rows = _before(rule.axis), slice(start, stop)
                filled = room[rule.place][rows]
                filled[(*before, slice(length.sent))] = arrays[rule.place][rows]
                filled[(*before, slice(length.sent, None))] = rule.fill

    def cut(self, outputs: Arrays, names: Sequence[str], cut: Cut) -> Arrays:
        """The outputs of those names as the caller would have got them without padding.

        What was cut is C-contiguous, and a view of the output where its memory allows. An output that follows an input
        that was not padded, or that is not configured, is passed on as it is. Raises `ModelFailed` for an output that
        does not have the padded length where it should: nobody knows then which of its elements are the caller's.
        """
        views = self.views(outputs, names, cut)
        return tuple([array if array.flags.c_contiguous else np.ascontiguousarray(array) for array in views])

    def views(self, outputs: Arrays, names: Sequence[str], cut: Cut) -> Arrays:
        """The same, as views that need not be contiguous: nothing is copied."""
        return tuple([self._cut_one(array, name, cut) for array, name in zip(outputs, names, strict=True)])

    def _cut_one(self, array: Array, name: str, cut: Cut) -> Array:
        rule = self._cuts.get(name)
        if rule is None:
            return array
        length = cut.lengths[rule.group]
        if length.sent == length.padded:
            return array
        size = array.shape[rule.axis] if array.ndim > rule.axis else None
        if size != length.padded:
            raise ModelFailed(
                f"output {name!r} has {'no' if size is None else size} elements along axis {rule.axis}, where input "
                f"{rule.like!r} was padded to {length.padded}, so it cannot be cut back; model.toml has to say in "
                "[padding.outputs] which outputs follow which inputs"
            )
        return array[(*_before(rule.axis), slice(length.sent))]

    def _check_size(self, rows: int, padded_bytes: int) -> None:
        if rows > self._max_rows:
            raise RequestTooLarge(f"the request has {rows} rows; the queue takes at most {self._max_rows}")
        if padded_bytes > self._max_bytes:
            raise RequestTooLarge(
                f"the inputs have {padded_bytes} bytes once they are padded; the queue takes at most {self._max_bytes}"
            )

    def _unequal(self, rule: PadRule, sent: int, expected: int) -> InvalidRequest:
        leader = next(each for each in self._pads if each.leads and each.group == rule.group)
        return InvalidRequest(
            f"input {rule.name!r} has {sent} elements along axis {rule.axis}; expected {expected}, as many as input "
            f"{leader.name!r} has along axis {leader.axis}"
        )


def _bucket(buckets: Sequence[int], length: int) -> int:
    """The smallest bucket that holds the length, or the length itself where none does."""
    place = bisect_left(buckets, length)
    return buckets[place] if place < len(buckets) else length


def _elements(array: Array, axis: int, length: int) -> int:
    """How many elements the array has once the axis is that long. Python's integers do not overflow; numpy's do."""
    elements = length
    for at, size in enumerate(array.shape):
        if at != axis:
            elements *= size
    return elements


def _before(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis
