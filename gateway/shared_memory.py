"""What clients are told that would use shared memory, over HTTP and gRPC: there are no regions."""

from __future__ import annotations

from typing import Literal

from inference.errors import InvalidRequest, NoSuchRegion

Kind = Literal["system", "cuda"]


def not_served(kind: Kind, region: str) -> InvalidRequest:
    """To one that wants to register a region."""
    return InvalidRequest(
        f"cannot register the {kind} shared memory region {region[:80]!r}: shared memory is not served; "
        "send tensors in the request"
    )


def no_region(kind: Kind, region: str) -> NoSuchRegion:
    """To one that asks for a region by its name."""
    return NoSuchRegion(f"Unable to find {kind} shared memory region: {region[:80]!r}; shared memory is not served")
