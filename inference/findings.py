"""What is known of how a model treats its rows, and on which evidence."""

from __future__ import annotations

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
    """The graph's word on the rows. `because` names the operator and output that decided, in plain words."""

    verdict: Independence
    because: str


NOT_READ = RowsProof(Independence.UNKNOWN, "the graph was not read")
