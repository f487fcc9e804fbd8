"""The worker process: one model, one gateway, one batch after another.

`workers.spawn` starts it. It loads the model that the first message names, and then answers `Run` orders in turn. It
ends when the gateway closes its ends of the sockets or has ended itself, even in the middle of a run or while it is
stopped by a signal.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from sluice.inference.backends.base import Backend, UnloadedModel
from sluice.inference.backends.registry import engine_of
from sluice.inference.errors import ModelLoadError
from sluice.inference.findings import NOT_READ, Findings
from sluice.inference.planning.survey import Surveyed, survey
from sluice.inference.planning.warmup import Trial, try_out, warm
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.transport.arena import SharedMemory
from sluice.inference.transport.channel import (
    NAMES_BYTES,
    Channel,
    Ends,
    PeerGone,
    WireError,
    clipped,
)
from sluice.inference.transport.messages import (
    ORDERS,
    KnownVersion,
    Load,
    Loaded,
    LoadFailed,
    Run,
    ShareArena,
    WorkerOrder,
)
from sluice.inference.types import Datatype, Signature, TensorSpec
from sluice.inference.worker.runner import Runner

PR_SET_PDEATHSIG = 1

MOST_NOTES = 4
"""The most notes in `Findings` that are sent to the gateway."""


def main(sends: int, receives: int) -> None:
    """Serves the gateway at the other ends of the two sockets, given by descriptors, until they are closed."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, when the gateway still needs its workers
        signal.signal(stop, signal.SIG_IGN)
    _die_before_the_gateway()
    _die_with_the_gateway()
    threading.Thread(target=_end_with_gateway, args=(receives,), daemon=True).start()
    channel = Channel(Ends(socket.socket(fileno=sends), socket.socket(fileno=receives)), ORDERS)
    with suppress(PeerGone):
        loaded = _load(channel)
        if loaded is not None:
            _serve(channel, *loaded)


def _die_before_the_gateway() -> None:
    """Makes the kernel kill a worker, which is replaced, rather than the gateway when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _die_with_the_gateway() -> None:
    """Makes the kernel kill this process when the gateway ends: a stopped process could not see closed sockets.

    Source: prctl(2). If the gateway ended before this call, the closed sockets end the worker.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _end_with_gateway(receives: int) -> None:
    """Ends the process when the other end is closed, even if the main thread is in a run that never ends."""
    poll = select.poll()
    poll.register(receives, select.POLLRDHUP)
    poll.poll()
    os._exit(0)


def _load(channel: Channel[WorkerOrder]) -> tuple[Backend, Signature] | None:
    order, _ = channel.receive()
    if not isinstance(order, Load):
        raise WireError(f"the first message was {type(order).__name__}, not Load")
    try:
        file = Path(order.model_file)
        model = engine_of(file).model(file)  # imports the engine: here, so that a broken one is reported
        loaded = load_model(order, model)
        trial = loaded.trial
        names, notes = _class_names(model)
        notes = (clipped("; ".join(notes)),) if notes else ()
        channel.send(Loaded(trial.signature, loaded.plan, _clipped(trial.findings), notes, names))
    except PeerGone:
        raise
    except Exception as error:  # the gateway reports any error to the operator
        channel.send(LoadFailed(clipped(str(error) if isinstance(error, ModelLoadError) else repr(error))))
        return None
    return loaded.backend, trial.signature


def load_model(order: Load, model: UnloadedModel) -> Surveyed:
    """Loads a model as ordered. Raises `ModelLoadError`, or whatever the engine raises.

    The first worker of a version tries the model, measures it, and plans how to serve it.
    """

    def open_backend(threads: int) -> Backend:
        return model.load(order.device, threads, order.apart)

    if order.known is not None and isinstance(order.plan, ServingPlan):
        return _load_known(open_backend, order.known, order.plan)
    with ThreadPoolExecutor(1, "proof") as pool:
        # The proof runs while the engine loads the model, which takes longer and lets other threads run.
        proof = pool.submit(model.prove) if order.batched in (None, True) else None

        def try_model(backend: Backend) -> Trial:
            sample = None if order.sample is None else Path(order.sample)
            return try_out(backend, order.batched, (lambda: NOT_READ) if proof is None else proof.result, sample)

        if not isinstance(order.plan, ServingPlan):
            return survey(open_backend, try_model, order.plan)
        backend = open_backend(order.plan.intra_op_threads)
        return Surveyed(backend, try_model(backend), order.plan)


def _load_known(open_backend: Callable[[int], Backend], known: KnownVersion, plan: ServingPlan) -> Surveyed:
    """Loads a model that an earlier worker has tried. If its signature is another one now, that one is reported."""
    backend = open_backend(plan.intra_op_threads)
    signature = known.signature
    same = backend.inputs == signature.inputs and _names(backend.outputs) == _names(signature.outputs)
    if not same:
        signature = Signature(backend.inputs, backend.outputs, signature.batched)
    warm(backend, signature, None)
    return Surveyed(backend, Trial(signature, known.findings, None), plan)


def _names(specs: Sequence[TensorSpec]) -> list[tuple[str, Datatype]]:
    return [(spec.name, spec.datatype) for spec in specs]


def _clipped(findings: Findings) -> Findings:
    words = {
        name: clipped(text)
        for name in ("because", "missing", "erratic_because", "alarm")
        if (text := getattr(findings, name)) is not None
    }
    return msgspec.structs.replace(
        findings, notes=tuple([clipped(note) for note in findings.notes[:MOST_NOTES]]), **words
    )


def _class_names(model: UnloadedModel) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The class names by output, as far as one message has room, and the notes, with one for each output left out."""
    names: dict[str, tuple[str, ...]] = {}
    notes = model.notes
    left_bytes = NAMES_BYTES
    for output, classes in model.class_names.items():
        size_bytes = sum([len(name.encode()) + 5 for name in classes])  # msgpack puts up to 5 bytes before each
        if size_bytes <= left_bytes:
            names[output] = classes
            left_bytes -= size_bytes
        else:
            notes += (f"the classes of output {output!r} have too long names to be told; give them in [labels]",)
    return names, notes


def _serve(channel: Channel[WorkerOrder], backend: Backend, signature: Signature) -> None:
    share, descriptor = channel.receive()
    if not isinstance(share, ShareArena) or descriptor is None:
        raise WireError(f"the second message was {type(share).__name__}, not ShareArena with an arena")
    arena = SharedMemory(descriptor, share.shape.size_bytes)
    arena.close_descriptor()
    runner = Runner(backend, signature, share.shape, arena)
    while True:
        order, own_inputs = channel.receive()
        if not isinstance(order, Run):
            raise WireError(f"{type(order).__name__} was received where Run was expected")
        runner.answer(channel, order, own_inputs)
