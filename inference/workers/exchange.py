"""The gateway's side of one batch's memory: parts stacked into shared memory, outputs taken out of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from sluice.inference.errors import ModelFailed, RequestTooLarge
from sluice.inference.planning.options import UNLIMITED_BYTES
from sluice.inference.transport.arena import SLOTS, SharedMemory, arena_shape, lender
from sluice.inference.transport.channel import Channel
from sluice.inference.transport.layout import BufferPlan, Placed, copies, plan, write, write_file
from sluice.inference.transport.messages import Answer, Done, Run, ShareArena
from sluice.inference.types import Arrays, Datatype, Signature

LEND_FROM_BYTES = 1 << 20
"""Inputs from this size on are lent where they can be: to map them costs the worker less than a copy costs here."""


class WantedOutputs(msgspec.Struct, frozen=True):
    """The outputs that a batch is to give: their names, and their places and datatypes in the signature."""

    names: Sequence[str]
    places: tuple[int, ...]
    datatypes: Sequence[Datatype]


class Exchange:
    """One worker's arena. Owns it until `close`, and knows which of its slots are free.

    Making one raises `OSError` where there is no memory for it, `PeerGone` or `WireError` where the worker does not
    take it.
    """

    def __init__(
        self,
        channel: Channel[Answer],
        signature: Signature,
        max_batch_rows: int,
        max_answer_bytes: int = UNLIMITED_BYTES,
    ) -> None:
        self._channel = channel
        self._shape = arena_shape(signature, max_batch_rows)
        self._max_answer_bytes = max_answer_bytes
        self._free = list(range(SLOTS))
        self._parts = [1] * SLOTS
        self._places = {spec.name: place for place, spec in enumerate(signature.outputs)}
        self._datatypes = tuple([spec.datatype for spec in signature.outputs])
        self._arena = SharedMemory.create(self._shape.size_bytes)
        try:
            channel.send(ShareArena(self._shape), self._arena.descriptor)
        except BaseException:
            self._arena.close()
            raise
        self._arena.close_descriptor()

    @property
    def free_slots(self) -> int:
        """Batches that may be sent now."""
        return len(self._free)

    def wanted(self, outputs: Sequence[str]) -> WantedOutputs:
        """The outputs of these names. Raises `KeyError` for a name that the signature does not have."""
        places = tuple([self._places[name] for name in outputs])
        return WantedOutputs(outputs, places, [self._datatypes[place] for place in places])

    def send(self, parts: Sequence[Arrays], wanted: WantedOutputs) -> int:
        """Stacks the parts and sends them off; the slot that they hold until `take` or `release`.

        Raises `ModelFailed` if the machine has no memory for parts that do not fit the slot, `PeerGone` or `WireError`
        if the worker does not take them. The slot stays free then.
        """
        slot = self._free[-1]
        self._parts[slot] = len(parts)
        if len(parts) == 1 and self._lend(slot, parts[0], wanted):
            return self._free.pop()
        planned = plan(list(zip(*parts, strict=True)))
        if planned.size_bytes <= self._shape.input_bytes:
            write(planned, self._arena.buffer, self._shape.input_start(slot))
            self._channel.send(Run(slot, planned.placed, wanted.places, 0))
        else:
            self._send_apart(slot, planned, wanted)
        return self._free.pop()

    def _lend(self, slot: int, inputs: Arrays, wanted: WantedOutputs) -> bool:
        """Large inputs that lie in shared memory already are not copied: the worker is given that memory."""
        if sum([array.nbytes for array in inputs]) < LEND_FROM_BYTES or (lent := lender(inputs)) is None:
            return False
        memory, offsets = lent
        placed = tuple(
            [Placed(offset, array.nbytes, array.shape) for offset, array in zip(offsets, inputs, strict=True)]
        )
        self._channel.send(Run(slot, placed, wanted.places, len(memory)), memory.descriptor)
        return True

    def _send_apart(self, slot: int, planned: BufferPlan, wanted: WantedOutputs) -> None:
        """Inputs larger than the slot: in memory of their own, which the worker has once it is sent."""
        try:
            own = SharedMemory.create(planned.size_bytes)
        except OSError as error:
            raise _no_memory(planned.size_bytes, error) from error
        with own:
            write_file(planned, own)
            self._channel.send(Run(slot, planned.placed, wanted.places, planned.size_bytes), own.descriptor)

    def take(self, slot: int, done: Done, descriptor: int | None, wanted: WantedOutputs) -> Arrays:
        """The outputs, copied out. `descriptor` is of outputs that did not fit the slot.

        Nothing is copied of outputs that are larger than the answers to the batch's parts may be: of a single part that
        raises `RequestTooLarge`, of several `ModelFailed`, for nobody knows yet whose they are.
        """
        parts = self._parts[slot]
        size_bytes = sum([placed.size_bytes for placed in done.outputs])
        if size_bytes > parts * self._max_answer_bytes:
            if descriptor is not None:
                os.close(descriptor)
            raise self._too_large(size_bytes, parts)
        if not done.own_bytes:
            return copies(self._arena.buffer, self._shape.output_start(slot), done.outputs, wanted.datatypes)
        if descriptor is None:
            raise ModelFailed("the outputs' memory did not reach the gateway: it has too many open files")
        try:
            own = SharedMemory(descriptor, done.own_bytes)
        except OSError as error:
            raise _no_memory(done.own_bytes, error) from error
        with own:
            return copies(own.buffer, 0, done.outputs, wanted.datatypes)

    def _too_large(self, size_bytes: int, parts: int) -> RequestTooLarge | ModelFailed:
        limit = self._max_answer_bytes
        if parts > 1:
            return ModelFailed(
                f"the outputs of {parts} requests have {size_bytes} bytes; each may have at most {limit}"
            )
        return RequestTooLarge(
            f"the model's answer has {size_bytes} bytes; it may have at most {limit} (server.max_answer_bytes): send "
            "fewer rows or shorter ones, or ask for fewer outputs"
        )

    def release(self, slot: int) -> None:
        """The slot is free again."""
        self._free.append(slot)

    def close(self) -> None:
        """Gives the arena back."""
        self._arena.close()


def _no_memory(size_bytes: int, error: OSError) -> ModelFailed:
    return ModelFailed(f"there is no shared memory for a batch of {size_bytes} bytes: {error.strerror}")
