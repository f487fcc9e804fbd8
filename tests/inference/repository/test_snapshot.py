"""Which files count as the same, and how often they are read to tell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.inference.errors import ModelLoadError
from sluice.inference.repository import snapshot
from sluice.inference.repository.snapshot import FileState, Snapshot, SnapshotCheck, take_snapshot
from tests import models

ONE, OTHER = b"\0\0\0@\0\0@@", b"\0\0@@\0\0\0@"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "w.bin").write_bytes(ONE)
    return models.place(models.external_weights("w.bin"), tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    seen: list[Path] = []
    real = snapshot.read

    def counted(path: Path) -> FileState:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(snapshot, "read", counted)
    return seen


def replace(file: Path, content: bytes) -> None:
    """Another file in its place, as a deployment makes it."""
    new = file.with_name("new")
    new.write_bytes(content)
    new.rename(file)


def test_files_that_lie_as_they_did_are_not_read_again(file: Path, reads: list[Path]) -> None:
    held = SnapshotCheck(take_snapshot(file))
    reads.clear()
    held.check()
    assert held.overwritten() is None
    assert reads == []


@pytest.mark.parametrize("name", ["model.onnx", "w.bin"])
def test_equal_bytes_are_the_same_however_they_lie(file: Path, name: str, reads: list[Path]) -> None:
    held = SnapshotCheck(take_snapshot(file))
    subject = file.with_name(name)
    changes: tuple[Callable[[], object], ...] = (
        lambda: replace(subject, subject.read_bytes()),
        lambda: os.utime(subject, ns=(1, 1)),
        lambda: subject.chmod(0o600),
        lambda: subject.write_bytes(subject.read_bytes()),
        lambda: subject.symlink_to(subject.rename(file.with_name("blob"))),
    )
    for change in changes:
        change()
        reads.clear()
        held.check()
        held.check()
        assert reads in ([subject], []), "at most once for each way to lie"


@pytest.mark.parametrize("name", ["model.onnx", "w.bin"])
def test_other_bytes_are_refused_until_they_are_put_back(file: Path, name: str, reads: list[Path]) -> None:
    held = SnapshotCheck(take_snapshot(file))
    subject = file.with_name(name)
    before = subject.read_bytes()
    replace(subject, before[::-1])
    reads.clear()
    for _ in range(3):
        with pytest.raises(ModelLoadError, match=f"{subject}: has changed since the version was taken into service"):
            held.check()
    assert reads == [subject], "what is known to be other bytes is not read again"
    replace(subject, before)
    held.check()


def test_a_change_that_sets_the_time_back_is_seen(file: Path) -> None:
    weights = file.with_name("w.bin")
    lay = weights.stat()
    held = SnapshotCheck(take_snapshot(file))
    with weights.open("r+b") as content:
        content.write(OTHER)
    os.utime(weights, ns=(lay.st_atime_ns, lay.st_mtime_ns))
    assert weights.stat().st_mtime_ns == lay.st_mtime_ns
    assert held.changed() == weights


@pytest.mark.parametrize("missing", ["model.onnx", "w.bin"])
def test_files_that_are_gone_are_refused_unread(file: Path, missing: str, reads: list[Path]) -> None:
    held = SnapshotCheck(take_snapshot(file))
    shutil.move(file.with_name(missing), file.with_name("kept"))
    reads.clear()
    assert held.changed() == file.with_name(missing)
    shutil.move(file.with_name("kept"), file.with_name(missing))
    held.check()


def test_files_of_another_size_are_refused_unread(file: Path, reads: list[Path]) -> None:
    held = SnapshotCheck(take_snapshot(file))
    reads.clear()
    replace(file.with_name("w.bin"), ONE + ONE)
    assert held.changed() == file.with_name("w.bin")
    assert reads == []


def test_weights_that_are_written_into_are_told_from_those_that_are_replaced(file: Path) -> None:
    weights = file.with_name("w.bin")
    held = SnapshotCheck(take_snapshot(file))
    with weights.open("r+b") as content:
        content.write(ONE)
    assert held.overwritten() is None, "the same bytes again"
    with weights.open("r+b") as content:
        content.write(OTHER)
    assert held.overwritten() == weights
    weights.write_bytes(ONE)
    assert held.overwritten() is None
    replace(weights, OTHER)
    assert held.overwritten() is None, "who has the old file mapped keeps it"
    assert held.changed() == weights


def test_weights_that_may_not_be_read_any_more_are_the_same_unless_they_were_written_into(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = file.parent / "w.bin"
    held = SnapshotCheck(take_snapshot(file))

    def denied(path: Path) -> FileState:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(snapshot, "read", denied)  # root may read everything
    weights.chmod(0)
    assert held.overwritten() is None
    held.check()
    weights.write_bytes(OTHER)
    assert held.overwritten() == weights
    with pytest.raises(ModelLoadError, match=r"w\.bin: has changed"):
        held.check()


def test_weights_that_the_engine_has_a_copy_of_may_be_written_into(tmp_path: Path) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(ONE)
    file = models.place(models.external_weights("../w.bin"), tmp_path / "m")
    taken = take_snapshot(file)
    mapped, copied = SnapshotCheck(taken), SnapshotCheck(Snapshot(taken.model_file, taken.files, ("../w.bin",)))
    weights.write_bytes(OTHER)
    there = file.parent / "../w.bin"
    assert (mapped.overwritten(), copied.overwritten()) == (there, None)
    assert copied.changed() == there
