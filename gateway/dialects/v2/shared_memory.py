"""What clients are told that would use shared memory, over HTTP and gRPC: there are no regions."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from sluice.inference.errors import InvalidRequest, NoSuchRegion

Kind = Literal["system", "cuda"]

REGION = "shared_memory_region"
"""The parameter of an input or output that would lie in shared memory."""


def refuse_shared_memory(where: str, parameters: Container[str]) -> None:
    """Raises `InvalidRequest` for an input or output, named `where`, that would lie in shared memory.

    A client that wants an output there would read whatever it finds there in its place.
    """
    if REGION in parameters:
        raise InvalidRequest(f"{where}: shared memory is not served; the tensor travels in the message")


def not_served(kind: Kind, region: str) -> InvalidRequest:
    """To one that wants to register a region."""
    return InvalidRequest(
        f"cannot register the {kind} shared memory region {region[:80]!r}: shared memory is not served; "
        "send tensors in the request"
    )


def no_region(kind: Kind, region: str) -> NoSuchRegion:
    """To one that asks for a region by its name."""
    return NoSuchRegion(f"Unable to find {kind} shared memory region: {region[:80]!r}; shared memory is not served")
