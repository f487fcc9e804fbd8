"""The worker process: one model, one gateway, one batch after another.

Started by `workers.spawn`, never by hand. Loads the model that the first message names, answers runs in their order,
and ends when the gateway closes its ends of the sockets or has ended itself, in the middle of a run and when it has
been stopped, too.
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
    Order,
    Run,
    ShareArena,
)
from sluice.inference.types import Datatype, Signature, TensorSpec
from sluice.inference.worker.runner import Runner

PR_SET_PDEATHSIG = 1

MOST_NOTES = 4
"""Notes that are passed on."""


def main(sends: int, receives: int) -> None:
    """Serves the gateway at the other ends of the two sockets, until they are closed."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the gateway still needs its workers then
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
    """When memory runs out, the kernel is to end a worker, which is replaced, and never the gateway."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _die_with_the_gateway() -> None:
    """A worker that is stopped could not see that the gateway has ended, and would stay for ever: the kernel kills it.

    Source: prctl(2). Should the gateway have ended before this, the sockets tell.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _end_with_gateway(receives: int) -> None:
    """Watches for the other end to close: the main thread may be deep in a run that never ends."""
    poll = select.poll()
    poll.register(receives, select.POLLRDHUP)
    poll.poll()
    os._exit(0)


def _load(channel: Channel[Order]) -> tuple[Backend, Signature] | None:
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
    except Exception as error:  # whatever it is, the gateway tells the operator
        channel.send(LoadFailed(clipped(str(error) if isinstance(error, ModelLoadError) else repr(error))))
        return None
    return loaded.backend, trial.signature


def load_model(order: Load, model: UnloadedModel) -> Surveyed:
    """Loads a model as ordered. The first worker of a version tries and measures it, and plans how to serve it."""

    def open_backend(threads: int) -> Backend:
        return model.load(order.device, threads, order.apart)

    if order.known is not None and isinstance(order.plan, ServingPlan):
        return _load_known(open_backend, order.known, order.plan)
    with ThreadPoolExecutor(1, "proof") as pool:
        # Beside opening the session, which takes longer and lets other threads run.
        proof = pool.submit(model.prove) if order.batched in (None, True) else None

        def try_model(backend: Backend) -> Trial:
            sample = None if order.sample is None else Path(order.sample)
            return try_out(backend, order.batched, (lambda: NOT_READ) if proof is None else proof.result, sample)

        if not isinstance(order.plan, ServingPlan):
            return survey(open_backend, try_model, order.plan)
        backend = open_backend(order.plan.intra_op_threads)
        return Surveyed(backend, try_model(backend), order.plan)


def _load_known(open_backend: Callable[[int], Backend], known: KnownVersion, plan: ServingPlan) -> Surveyed:
    """Another worker of a model that was tried. One that reports another signature than it had tells it."""
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
    """The names of classes, by output, as far as one message has room for them, and the notes, which say so."""
    names: dict[str, tuple[str, ...]] = {}
    notes = model.notes
    left_bytes = NAMES_BYTES
    for output, classes in model.class_names.items():
        size_bytes = sum([len(name.encode()) + 5 for name in classes])  # each with its own head
        if size_bytes <= left_bytes:
            names[output] = classes
            left_bytes -= size_bytes
        else:
            notes += (f"the classes of output {output!r} have too long names to be told; give them in [labels]",)
    return names, notes


def _serve(channel: Channel[Order], backend: Backend, signature: Signature) -> None:
    share, descriptor = channel.receive()
    if not isinstance(share, ShareArena) or descriptor is None:
        raise WireError(f"the second message was {type(share).__name__}, not Share with an arena")
    arena = SharedMemory(descriptor, share.shape.size_bytes)
    arena.close_descriptor()
    runner = Runner(backend, signature, share.shape, arena)
    while True:
        order, own_inputs = channel.receive()
        if not isinstance(order, Run):
            raise WireError(f"{type(order).__name__} was received where Run was expected")
        runner.answer(channel, order, own_inputs)
