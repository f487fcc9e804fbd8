"""Padding: inputs of varying length are padded to a few lengths, so that requests can share a batch.

`Padding` is made once for a model, from its signature and the table `[padding]` of its `model.toml`. Each request is
padded before its shape key is computed, and its outputs are cut when they arrive. There is no I/O: arrays in, arrays
out. See docs/padding.md.
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
    """The length of an input as it was sent, and as the model saw it."""

    sent: int
    padded: int


class Cut(msgspec.Struct, frozen=True):
    """How one request was padded: enough to cut its outputs, and to count the waste.

    `lengths` has one entry for each padded input that has buckets, in the order of the signature. `own_elements` and
    `added_elements` count the elements that were sent and that padding added, for all padded inputs together, including
    those that needed no padding.
    """

    lengths: tuple[Length, ...]
    own_elements: int
    added_elements: int

    @property
    def is_padded(self) -> bool:
        """Whether any input became longer."""
        return any([length.sent != length.padded for length in self.lengths])


class Padding:
    """Pads requests for one model and cuts their outputs.

    An input is padded to the smallest of its buckets that is long enough. An input that is longer than its largest
    bucket stays as it is. So the model sees only lengths of buckets, and greater ones. Elements are added after the
    caller's own, never before them.

    A request is padded only if it fits into an empty queue afterwards; `max_rows` and `max_bytes` are the queue's
    limits. Without them, a request with rows of length 0, which takes no bytes to send, could ask for any amount of
    memory.

    The constructor raises `RepositoryError` with every fault if the configuration does not suit the signature.
    """

    uncut: tuple[str, ...]
    """Outputs that have an axis of any size and are not cut. If one of them follows a padded length, callers get padded
    answers; so the operator is warned."""

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
        """What has to be padded, and the bytes of the padded inputs. Allocates no memory for them.

        `arrays` conform to the signature and are in its order. Raises `InvalidRequest` if inputs that must be equally
        long are not, and `RequestTooLarge` if the padded request would not fit into an empty queue.
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
        """The padded arrays, and how they were padded. Raises as `measure` does.

        Arrays that need no padding are passed on, not copied.
        """
        cut, _ = self.measure(arrays)
        return self.padded(arrays, cut), cut

    def padded(self, arrays: Arrays, cut: Cut) -> Arrays:
        """The padded arrays, with the lengths that were measured."""
        padded = self.room(arrays, cut)
        self.fill(arrays, padded, cut, 0, len(arrays[0]))
        return padded

    def room(self, arrays: Arrays, cut: Cut) -> Arrays:
        """New arrays for the padded inputs, still to be filled; arrays that need no padding are passed on."""
        room = list(arrays)
        for rule in self._pads:
            length = cut.lengths[rule.group]
            if length.sent != length.padded:
                array = arrays[rule.place]
                shape = (*array.shape[: rule.axis], length.padded, *array.shape[rule.axis + 1 :])
                room[rule.place] = np.empty(shape, array.dtype)
        return tuple(room)

    def fill(self, arrays: Arrays, room: Arrays, cut: Cut, start: int, stop: int) -> None:
        """Fills the rows from `start` to `stop` of the padded arrays, every element once."""
        for rule in self._pads:
            length = cut.lengths[rule.group]
            if length.sent != length.padded:
                before, rows = _before(rule.axis), slice(start, stop)
                filled = room[rule.place][rows]
                filled[(*before, slice(length.sent))] = arrays[rule.place][rows]
                filled[(*before, slice(length.sent, None))] = rule.fill

    def cut(self, outputs: Arrays, names: Sequence[str], cut: Cut) -> Arrays:
        """The outputs of these names as they would be without padding.

        A cut output is C-contiguous, and a view of the original if its memory allows. An output that is not configured,
        or whose input was not padded, is passed on unchanged. Raises `ModelFailed` for an output that does not have the
        padded length: it is not known then which of its elements are the caller's.
        """
        views = self.views(outputs, names, cut)
        return tuple([array if array.flags.c_contiguous else np.ascontiguousarray(array) for array in views])

    def views(self, outputs: Arrays, names: Sequence[str], cut: Cut) -> Arrays:
        """As `cut`, but as views that need not be contiguous: nothing is copied."""
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
    """The smallest bucket that is not shorter than the length, or the length itself if there is none."""
    place = bisect_left(buckets, length)
    return buckets[place] if place < len(buckets) else length


def _elements(array: Array, axis: int, length: int) -> int:
    """The elements of the array with that length along the axis. In Python's integers, since numpy's may overflow."""
    elements = length
    for at, size in enumerate(array.shape):
        if at != axis:
            elements *= size
    return elements


def _before(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis
