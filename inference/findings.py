"""What is known of how a model treats its rows, and on which evidence."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Independence(StrEnum):
    """What the graph says of the rows of a batch."""

    PROVEN = "proven"
    """Each row of every output depends on its own row of the inputs alone, and on nothing that the batch decides."""

    MIXED = "mixed"
    """An operator on the way lets rows, or their number or place, change one another's answers. No trial refutes it."""

    UNKNOWN = "unknown"
    """The graph could not be followed to its end: an operator is not known, or something was out of bounds."""


class RowsProof(msgspec.Struct, frozen=True):
    """The graph's word on the rows. `because` names the operator and output that decided, in plain words.

    `hidden` is true of UNKNOWN where an operator may mix rows of a kind that no trial draws: none is believed then.
    """

    verdict: Independence
    because: str
    hidden: bool = False


NOT_READ = RowsProof(Independence.UNKNOWN, "the graph was not read")


class ExplainedTensor(msgspec.Struct, frozen=True):
    """What a proof knows of one tensor.

    `kind` is how the tensor depends on the rows, in one word; `known` says so in a sentence. `shape` has the size of
    each axis as text, since it need not be a number; it is `None` where the rank is not known. `because` is the reason
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
    """What the decision to batch a model, or to serve it alone, rests on."""

    PROVEN = "proven"
    """The graph: every operator on the way keeps the rows apart, or one is known to mix them."""

    TRIED = "tried"
    """The trial at load: different rows, alone and together, that would have shown an influence, or did."""

    TOLD = "told"
    """The operator's word: `batching.batched` is "unchecked" or false."""

    DECLARED = "declared"
    """The shapes that the model declares have no common batch axis."""

    NONE = "none"
    """Nothing. The model is served alone until somebody gives what is missing."""


class Findings(msgspec.Struct, frozen=True, array_like=True):
    """What was found out about a model's rows when it was loaded, and why it is batched or served alone.

    `because` has it in plain words. `missing` says what would have to be known to batch the model, and `ways` how to
    give it, whichever of `WAYS` can; both are there where the evidence is `NONE`. `erratic_because` is there where the
    model was seen to answer the same row differently. `alarm` is there where the trial contradicts the proof from the
    graph: one of them is wrong. `notes` are what the operator had better know besides, such as a sample that could not
    be used.
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
"""Those of a model that no trial can show to keep rows apart, with or without a sample."""


def ways_text(ways: Sequence[str]) -> str:
    """Several ways as one phrase."""
    *first, last = ways
    return f"{', or '.join(first)}, or {last}"
