"""The worker's side of one batch: takes inputs from shared memory, runs the model, puts outputs into shared memory."""

from __future__ import annotations

import time
from contextlib import ExitStack

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed
from sluice.inference.transport.arena import ArenaShape, SharedMemory
from sluice.inference.transport.channel import Channel, WireError, clipped
from sluice.inference.transport.layout import BufferPlan, plan, views, write
from sluice.inference.transport.messages import Done, Failed, Run, WorkerOrder
from sluice.inference.types import Arrays, Signature


class Runner:
    """Answers `Run` orders, one at a time. Owns the mapping of the arena until the process ends."""

    def __init__(self, backend: Backend, signature: Signature, shape: ArenaShape, arena: SharedMemory) -> None:
        self._backend = backend
        self._shape = shape
        self._arena = arena
        self._datatypes = tuple([spec.datatype for spec in signature.inputs])
        self._names = tuple([spec.name for spec in signature.outputs])

    def answer(self, channel: Channel[WorkerOrder], order: Run, descriptor: int | None) -> None:
        """Runs one batch and sends `Done` or `Failed`. `descriptor`: memory of inputs that did not fit the slot."""
        try:
            outputs, began_s, compute_s = self._run(order, descriptor)
            planned = plan([(array,) for array in outputs])
            if planned.size_bytes > self._shape.output_bytes:
                self._send_apart(channel, planned, began_s, compute_s)
                return
            write(planned, self._arena.buffer, self._shape.output_start(order.slot))
            channel.send(Done(planned.placed, 0, began_s, compute_s))
        except ModelFailed as error:
            channel.send(Failed(clipped(str(error)), error.invalid_input))
        except (OSError, MemoryError, ValueError, WireError) as error:
            channel.send(Failed(clipped(f"the worker could not run the batch: {error!r}"), False))

    def _run(self, order: Run, descriptor: int | None) -> tuple[Arrays, float, float]:
        """The outputs, when the engine began, and how long it ran. Releases the inputs before it returns."""
        with ExitStack() as held:
            buffer, start = self._arena.buffer, self._shape.input_start(order.slot)
            if order.own_bytes:
                if descriptor is None:
                    raise ModelFailed("the batch's memory did not reach the worker: it has too many open files")
                buffer, start = held.enter_context(SharedMemory(descriptor, order.own_bytes)).buffer, 0
            inputs = views(buffer, start, order.inputs, self._datatypes)
            names = [self._names[place] for place in order.outputs]
            began_s = time.monotonic()
            outputs = self._backend.run(inputs, names)
            compute_s = time.monotonic() - began_s
            del inputs
        return outputs, began_s, compute_s

    def _send_apart(self, channel: Channel[WorkerOrder], planned: BufferPlan, began_s: float, compute_s: float) -> None:
        """Sends outputs larger than the slot in memory of their own, which the gateway owns from then on."""
        with SharedMemory.create(planned.size_bytes) as own:
            write(planned, own.buffer, 0)
            channel.send(Done(planned.placed, planned.size_bytes, began_s, compute_s), own.descriptor)
