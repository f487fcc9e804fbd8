"""How a version is to be served, as values: what a plan must keep to, and the plan that was made within that."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from sluice.inference.types import Knot

Batched: TypeAlias = bool | Literal["unchecked"] | None
"""The operator's word on the batch axis. `None`: find out. True: requests must be batched, and a model that is not
known to keep rows apart is refused. "unchecked": rows are not compared, but declared and observed shapes still count.
False: each runs alone."""


class PlanTerms(msgspec.Struct, frozen=True, array_like=True, tag="terms"):
    """What a plan has to keep to. `None` where the operator set nothing, or nothing is known of the memory.

    `memory_bytes` is for all workers of the version together, with their arenas.
    """

    cores: int
    device: str = "cpu"
    count: int | None = None
    intra_op_threads: int | None = None
    max_rows: int | None = None
    objective_s: float | None = None
    memory_bytes: int | None = None


class ServingPlan(msgspec.Struct, frozen=True, array_like=True, tag="plan"):
    """How a version is served: worker processes, threads in each, and rows in a batch at most.

    `knots` are the measured run times with these threads, rows rising; none for a model that could not be measured.
    `reasons` are plain sentences, one for each choice, with the figures behind it.
    """

    workers: int
    intra_op_threads: int
    max_rows: int
    knots: tuple[Knot, ...]
    reasons: tuple[str, ...]
