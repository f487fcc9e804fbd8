"""The gateway's side of one batch's memory: stacks parts into shared memory, and takes outputs out of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from sluice.inference.errors import ModelFailed, RequestTooLarge
from sluice.inference.planning.options import UNLIMITED_BYTES
from sluice.inference.transport.arena import SLOTS, SharedMemory, arena_shape, lender
from sluice.inference.transport.channel import Channel
from sluice.inference.transport.layout import BufferPlan, Placed, copies, plan, write, write_file
from sluice.inference.transport.messages import Done, Run, ShareArena, WorkerAnswer
from sluice.inference.types import Arrays, Datatype, Signature

LEND_FROM_BYTES = 1 << 20
"""From this size on, inputs in shared memory are lent: mapping them costs the worker less than a copy costs here."""


class WantedOutputs(msgspec.Struct, frozen=True):
    """The wanted outputs of a batch: their names, and their places and datatypes in the signature."""

    names: Sequence[str]
    places: tuple[int, ...]
    datatypes: Sequence[Datatype]


class Exchange:
    """One worker's arena. Owns it until `close`, and knows which of its slots are free.

    The constructor sends the arena to the worker. It raises `OSError` if there is no memory for it, and `PeerGone` or
    `WireError` if the worker does not take it.
    """

    def __init__(
        self,
        channel: Channel[WorkerAnswer],
        signature: Signature,
        max_batch_rows: int,
        max_answer_bytes: int = UNLIMITED_BYTES,
    ) -> None:
        self._channel = channel
        self._shape = arena_shape(signature, max_batch_rows)
        self._max_answer_bytes = max_answer_bytes
        self._free = list(range(SLOTS))
        self._parts = [1] * SLOTS
        self._rows: list[int | None] = [None] * SLOTS
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
        """How many batches may be sent now."""
        return len(self._free)

    def wanted(self, outputs: Sequence[str]) -> WantedOutputs:
        """The outputs of these names. Raises `KeyError` for a name that the signature does not have."""
        places = tuple([self._places[name] for name in outputs])
        return WantedOutputs(outputs, places, [self._datatypes[place] for place in places])

    def send(self, parts: Sequence[Arrays], wanted: WantedOutputs) -> int:
        """Stacks the parts and sends them. Returns the slot that they occupy until `release`.

        Raises `ModelFailed` if the machine has no memory for parts that do not fit the slot, and `PeerGone` or
        `WireError` if the worker does not take them; the slot then stays free.
        """
        slot = self._free[-1]
        self._parts[slot] = len(parts)
        self._rows[slot] = None if len(parts) == 1 else sum([part[0].shape[0] for part in parts])
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
        """Sends large inputs that lie in shared memory without a copy. False if they do not, and nothing was sent."""
        if sum([array.nbytes for array in inputs]) < LEND_FROM_BYTES or (lent := lender(inputs)) is None:
            return False
        memory, offsets = lent
        placed = tuple(
            [Placed(offset, array.nbytes, array.shape) for offset, array in zip(offsets, inputs, strict=True)]
        )
        self._channel.send(Run(slot, placed, wanted.places, len(memory)), memory.descriptor)
        return True

    def _send_apart(self, slot: int, planned: BufferPlan, wanted: WantedOutputs) -> None:
        """Sends inputs larger than the slot in memory of their own, which the worker owns from then on."""
        try:
            own = SharedMemory.create(planned.size_bytes)
        except OSError as error:
            raise _no_memory(planned.size_bytes, error) from error
        with own:
            write_file(planned, own)
            self._channel.send(Run(slot, planned.placed, wanted.places, planned.size_bytes), own.descriptor)

    def take(self, slot: int, done: Done, descriptor: int | None, wanted: WantedOutputs) -> Arrays:
        """The outputs, copied out. `descriptor` is the memory of outputs that did not fit the slot, or `None`.

        Outputs larger than the answers to all parts together may be are not copied. For a single part that raises
        `RequestTooLarge`; for several parts `ModelFailed`, since it is not known which of them has the large outputs.
        Raises `ModelFailed`, too, where the outputs of several parts do not have their rows along axis 0.
        """
        parts = self._parts[slot]
        size_bytes = sum([placed.size_bytes for placed in done.outputs])
        if size_bytes > parts * self._max_answer_bytes:
            if descriptor is not None:
                os.close(descriptor)
            raise self._too_large(size_bytes, parts)
        outputs = self._copied(slot, done, descriptor, wanted)
        if (rows := self._rows[slot]) is not None:
            _check_rows(rows, wanted.names, outputs)
        return outputs

    def _copied(self, slot: int, done: Done, descriptor: int | None, wanted: WantedOutputs) -> Arrays:
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
        """Makes the slot free again."""
        self._free.append(slot)

    def close(self) -> None:
        """Gives the arena back."""
        self._arena.close()


def _check_rows(rows: int, names: Sequence[str], outputs: Arrays) -> None:
    """Raises `ModelFailed` for an output of a stacked batch that cannot be cut into the parts' answers."""
    for name, output in zip(names, outputs, strict=True):
        if not output.ndim or output.shape[0] != rows:
            raise ModelFailed(
                f"output {name!r} has the shape {list(output.shape)} for a batch of {rows} rows; "
                "axis 0 must have the rows for a batch to be taken apart"
            )


def _no_memory(size_bytes: int, error: OSError) -> ModelFailed:
    return ModelFailed(f"there is no shared memory for a batch of {size_bytes} bytes: {error.strerror}")
