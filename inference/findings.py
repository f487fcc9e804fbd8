"""What is known about whether a model keeps the rows of a batch apart, and on which evidence."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Independence(StrEnum):
    """What the graph proves about the rows of a batch."""

    PROVEN = "proven"
    """Each row of every output depends only on its own row of the inputs, and not on the rest of the batch."""

    MIXED = "mixed"
    """An operator lets rows, their number or their places change one another's answers. No trial refutes this."""

    UNKNOWN = "unknown"
    """The graph could not be followed to its end: an operator is not known, or a bound was reached."""


class RowsProof(msgspec.Struct, frozen=True):
    """What the graph proves. `because` names the operator and the output that decided, in plain words.

    `hidden` can be true for UNKNOWN only: an operator may mix rows in a way that no trial would show, so the result of
    a trial is not trusted.
    """

    verdict: Independence
    because: str
    hidden: bool = False


NOT_READ = RowsProof(Independence.UNKNOWN, "the graph was not read")


class ExplainedTensor(msgspec.Struct, frozen=True):
    """What a proof knows of one tensor.

    `kind` is how the tensor depends on the rows, in one word; `known` says so in a sentence. `shape` has the size of
    each axis as text, since it need not be a number; it is `None` if the rank is not known. `because` is the reason
    why rows are not kept apart, or why that is not known; it is empty where they are kept apart.
    """

    name: str
    kind: str
    shape: tuple[str, ...] | None
    known: str
    because: str


class ExplainedOperator(msgspec.Struct, frozen=True):
    """One operator on the way of a proof: how deep in loops and functions it stands, and its outputs."""

    operator: str
    name: str
    depth: int
    outputs: tuple[ExplainedTensor, ...]


class Explanation(msgspec.Struct, frozen=True):
    """A proof with every operator that it followed, in the order of the graph."""

    proof: RowsProof
    steps: tuple[ExplainedOperator, ...]


class Evidence(StrEnum):
    """The evidence for the decision to batch a model, or to run each request alone."""

    PROVEN = "proven"
    """The graph: all its operators keep the rows apart, or one of them is known to mix them."""

    TRIED = "tried"
    """The trial at load: different rows, run alone and together, would have shown an influence, or did show one."""

    TOLD = "told"
    """The configuration: `batching.batched` is "unchecked" or false."""

    DECLARED = "declared"
    """The shapes that the model declares have no common batch axis."""

    NONE = "none"
    """None. Each request runs alone until the operator gives what is missing."""


class Findings(msgspec.Struct, frozen=True, array_like=True):
    """What was found out about a model's rows when it was loaded, and why it is batched or not.

    `because` says why, in plain words. If the evidence is `NONE`, `missing` says what would have to be known to batch
    the model, and `ways` how the operator can provide it (those of `WAYS` that would help). `erratic_because` is set if
    the model was seen to answer the same row differently. `alarm` is set if the trial contradicts the proof from the
    graph: one of the two is wrong. `notes` are further things that the operator should know, such as a sample that
    could not be used.
    """

    evidence: Evidence
    because: str
    missing: str | None = None
    erratic_because: str | None = None
    alarm: str | None = None
    notes: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()


WAYS = (
    "a sample: a valid request in sample.json (Open Inference Protocol V2) or sample.npz, beside the version's file or "
    "in the model's folder",
    'batching.batched = "unchecked", if its rows are known to be independent',
    "another export, of operators that keep rows apart along axis 0, under one name in all inputs and outputs",
)
"""The three ways to have an unproven model batched."""

WITHOUT_TRIAL = WAYS[1:]
"""The ways for a model for which no trial can show that rows are kept apart, with a sample or without."""


def ways_text(ways: Sequence[str]) -> str:
    """Several ways as one phrase."""
    *first, last = ways
    return f"{', or '.join(first)}, or {last}"
