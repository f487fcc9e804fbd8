"""The index of the model repository: what is in service, on its way, broken or unloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from sluice.gateway.serving.model import ServedModel
from sluice.inference.repository.scan import BrokenModel


class VersionState(StrEnum):
    """The state of a model or of one version, in the words of Triton's repository index."""

    READY = "READY"
    LOADING = "LOADING"
    UNAVAILABLE = "UNAVAILABLE"


class IndexEntry(msgspec.Struct, frozen=True):
    """One line of the index: a version, or a model that has none. `reason` says why it is unavailable."""

    name: str
    version: int | None
    state: VersionState
    reason: str = ""


def index_entries(
    name: str, served: Iterable[ServedModel], broken: Sequence[BrokenModel], *, is_loading: bool
) -> list[IndexEntry]:
    """The lines of one model: its versions in service, those that are broken, and the model itself if it is loading."""
    entries = [
        IndexEntry(name, each.version, VersionState.READY)
        if each.ready
        else IndexEntry(name, each.version, VersionState.UNAVAILABLE, "no worker process lives")
        for each in served
    ]
    is_served = bool(entries)
    entries += [IndexEntry(name, each.version, VersionState.UNAVAILABLE, each.reason) for each in broken]
    if is_loading:
        entries.append(IndexEntry(name, None, VersionState.LOADING))
    elif not is_served and not broken:
        entries.append(IndexEntry(name, None, VersionState.UNAVAILABLE, "unloaded"))
    return entries
