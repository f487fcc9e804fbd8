"""Refusals for clients that want to use shared memory, over HTTP and gRPC: it is not served."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from sluice.inference.errors import InvalidRequest, NoSuchRegion

Kind = Literal["system", "cuda"]

REGION = "shared_memory_region"
"""The parameter by which a request says that an input or output is in shared memory."""


def refuse_shared_memory(where: str, parameters: Container[str]) -> None:
    """Raises `InvalidRequest` for an input or output, named `where`, that is said to be in shared memory.

    Ignoring the parameter of an output would be wrong: the client would read whatever its region holds.
    """
    if REGION in parameters:
        raise InvalidRequest(f"{where}: shared memory is not served; the tensor travels in the message")


def not_served(kind: Kind, region: str) -> InvalidRequest:
    """The refusal to register a region."""
    return InvalidRequest(
        f"cannot register the {kind} shared memory region {region[:80]!r}: shared memory is not served; "
        "send tensors in the request"
    )


def no_region(kind: Kind, region: str) -> NoSuchRegion:
    """The refusal of a call that names a region."""
    return NoSuchRegion(f"Unable to find {kind} shared memory region: {region[:80]!r}; shared memory is not served")
