from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.repository_index import IndexEntry, VersionState, index_entries
from sluice.inference.repository.scan import BrokenModel

READY, LOADING, UNAVAILABLE = VersionState.READY, VersionState.LOADING, VersionState.UNAVAILABLE


def version(number: int, *, ready: bool = True) -> ServedModel:
    return cast(ServedModel, SimpleNamespace(version=number, ready=ready))


def test_versions_come_before_what_is_broken_and_what_is_on_its_way() -> None:
    broken = [BrokenModel("m", 3, "no such file")]
    assert index_entries("m", [version(1), version(2, ready=False)], broken, is_loading=True) == [
        IndexEntry("m", 1, READY),
        IndexEntry("m", 2, UNAVAILABLE, "no worker process lives"),
        IndexEntry("m", 3, UNAVAILABLE, "no such file"),
        IndexEntry("m", None, LOADING),
    ]


def test_a_model_without_anything_is_unloaded() -> None:
    assert index_entries("m", [], [], is_loading=False) == [IndexEntry("m", None, UNAVAILABLE, "unloaded")]


def test_a_broken_model_is_not_called_unloaded() -> None:
    entries = index_entries("m", [], [BrokenModel("m", None, "no such file")], is_loading=False)
    assert entries == [IndexEntry("m", None, UNAVAILABLE, "no such file")]
