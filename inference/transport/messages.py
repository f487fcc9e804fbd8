"""What the gateway and a worker say to each other.

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
    """What the first worker of a version found out, and the others are told."""

    signature: Signature
    findings: Findings


class Load(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first order to a worker: the model, what to run it on, and the plan to serve it by.

    The first worker of a version is given the terms instead, tries and measures the model, and makes the plan. `apart`
    are files of weights that lie outside the model's folder, by the model's names for them. `sample` is the file of a
    valid request to try it with. The others are given what is `known` since, and try nothing.
    """

    model_file: str
    device: str
    plan: ServingPlan | PlanTerms
    batched: Batched = None
    apart: tuple[str, ...] = ()
    sample: str | None = None
    known: KnownVersion | None = None


class ShareArena(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The arena, which comes with this message."""

    shape: ArenaShape


class Run(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One batch. `outputs` are the wanted ones, as places in the signature."""

    slot: int
    inputs: tuple[Placed, ...]
    outputs: tuple[int, ...]
    own_bytes: int


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The model is loaded, and warm unless it could not be tried.

    `notes` say in plain words what is served otherwise than the file has it. `class_names` are those that the file has
    for the columns of an output, by output.
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
    """The oldest batch has its outputs. `began_s`, when the engine began, is on the clock of the whole machine."""

    outputs: tuple[Placed, ...]
    own_bytes: int
    began_s: float
    compute_s: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The oldest batch failed; the worker goes on."""

    message: str
    invalid_input: bool


Order: TypeAlias = Load | ShareArena | Run
Answer: TypeAlias = Loaded | LoadFailed | Done | Failed

ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
