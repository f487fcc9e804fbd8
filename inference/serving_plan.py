"""How a version is to be served, as values: what a plan must keep to, and the plan that was made within that."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from sluice.inference.types import Knot

Batched: TypeAlias = bool | Literal["unchecked"] | None
"""What the operator configured about batching. `None`: find out. True: requests must be batched, and a model that is
not known to keep rows apart is refused. "unchecked": rows are not compared, but declared and observed shapes still
count. False: each request runs alone."""


class PlanTerms(msgspec.Struct, frozen=True, array_like=True, tag="terms"):
    """The limits of a plan. `None` stands for a value that the operator did not set, and for unknown memory.

    `memory_bytes` is for all workers of the version together, with their arenas. `objective_s` is the promised latency.
    """

    cores: int
    device: str = "cpu"
    count: int | None = None
    intra_op_threads: int | None = None
    max_rows: int | None = None
    objective_s: float | None = None
    memory_bytes: int | None = None


class ServingPlan(msgspec.Struct, frozen=True, array_like=True, tag="plan"):
    """How a version is served: the number of worker processes, of threads in each, and of rows in a batch at most.

    `knots` are the run times measured with this number of threads, by rising rows; empty for a model that could not be
    measured. `reasons` are plain sentences, one for each choice, with the figures behind it.
    """

    workers: int
    intra_op_threads: int
    max_rows: int
    knots: tuple[Knot, ...]
    reasons: tuple[str, ...]
