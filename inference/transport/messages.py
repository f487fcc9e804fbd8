"""The messages between the gateway and a worker, and their order.

    gateway                      worker
    Load            ->
                    <-           Loaded | LoadFailed
    ShareArena (+)  ->
    Run (+ inputs)  ->                                  at most `arena.SLOTS` of them unanswered
                    <-           Done (+ outputs) | Failed      in the order of the runs

"+" is memory whose descriptor travels with the message: the arena always, inputs and outputs where they are larger than
the slot (`own_bytes` says how large; 0 means that they lie in the slot). Datatypes are not sent: both sides know the
signature.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sluice.inference.findings import Findings
from sluice.inference.serving_plan import Batched, PlanTerms, ServingPlan
from sluice.inference.transport.arena import ArenaShape
from sluice.inference.transport.layout import Placed
from sluice.inference.types import Signature


class KnownVersion(msgspec.Struct, frozen=True, array_like=True):
    """What the first worker of a version found out. Further workers are given it."""

    signature: Signature
    findings: Findings


class Load(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first order to a worker: the model, what to run it on, and the plan to serve it by.

    The first worker of a version is given terms in place of a plan: it tries and measures the model, and makes the
    plan. Further workers are given that plan and what is `known`, and try nothing. `apart` are files of weights that
    lie outside the model's folder, by the model's names for them. `sample` is the file of a valid request to try the
    model with.
    """

    model_file: str
    device: str
    plan: ServingPlan | PlanTerms
    batched: Batched = None
    apart: tuple[str, ...] = ()
    sample: str | None = None
    known: KnownVersion | None = None


class ShareArena(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The arena's descriptor comes with this message."""

    shape: ArenaShape


class Run(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One batch to run. `outputs` are the places of the wanted outputs in the signature."""

    slot: int
    inputs: tuple[Placed, ...]
    outputs: tuple[int, ...]
    own_bytes: int


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The model is loaded. It is warm unless no input was found that it takes.

    `notes` say in plain words in which ways the served outputs differ from the file's. `class_names` are the file's
    names for the columns of an output, by output.
    """

    signature: Signature
    plan: ServingPlan
    findings: Findings
    notes: tuple[str, ...] = ()
    class_names: dict[str, tuple[str, ...]] = {}


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The model cannot be loaded; the worker ends."""

    message: str


class Done(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The outputs of the oldest batch. `began_s` is when the engine began, on the machine's monotonic clock."""

    outputs: tuple[Placed, ...]
    own_bytes: int
    began_s: float
    compute_s: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The oldest batch failed; the worker goes on."""

    message: str
    invalid_input: bool


WorkerOrder: TypeAlias = Load | ShareArena | Run
WorkerAnswer: TypeAlias = Loaded | LoadFailed | Done | Failed

ORDERS: msgspec.msgpack.Decoder[WorkerOrder] = msgspec.msgpack.Decoder(WorkerOrder)
ANSWERS: msgspec.msgpack.Decoder[WorkerAnswer] = msgspec.msgpack.Decoder(WorkerAnswer)
