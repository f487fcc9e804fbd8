from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluice.inference.planning.machine import (
    available_cores,
    available_memory_bytes,
    forget_peak,
    limit_left_bytes,
    peak_resident_bytes,
    quota_cores,
    resident_bytes,
)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _own(folder: Path, text: str) -> Path:
    _write(folder / "own", text)
    return folder / "own"


def test_available_cores_are_within_the_affinity() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def test_a_narrower_affinity_leaves_fewer_cores() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("50000 100000\n", 0.5)])
def test_the_quota_of_a_version_2_group(tmp_path: Path, text: str, cores: float | None) -> None:
    _write(tmp_path / "fs/service/cpu.max", text)
    assert quota_cores(_own(tmp_path, "0::/service\n"), tmp_path / "fs") == cores


def test_the_tightest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    _write(tmp_path / "fs/outer/inner/cpu.max", "400000 100000\n")
    _write(tmp_path / "fs/outer/cpu.max", "200000 100000\n")
    _write(tmp_path / "fs/cpu.max", "800000 100000\n")
    assert quota_cores(_own(tmp_path, "0::/outer/inner\n"), tmp_path / "fs") == 2.0


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_the_quota_of_a_version_1_group(tmp_path: Path, mount: str) -> None:
    _write(tmp_path / "fs" / mount / "job/cpu.cfs_quota_us", "300000\n")
    _write(tmp_path / "fs" / mount / "job/cpu.cfs_period_us", "100000\n")
    own = _own(tmp_path, "7:memory:/job\n3:cpu,cpuacct:/job\n")
    assert quota_cores(own, tmp_path / "fs") == 3.0


def test_a_version_1_group_without_a_quota(tmp_path: Path) -> None:
    _write(tmp_path / "fs/cpu/job/cpu.cfs_quota_us", "-1\n")
    _write(tmp_path / "fs/cpu/job/cpu.cfs_period_us", "100000\n")
    assert quota_cores(_own(tmp_path, "3:cpu:/job\n"), tmp_path / "fs") is None


def test_a_machine_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert quota_cores(tmp_path / "absent", tmp_path / "absent") is None


def test_memory_is_left_on_this_machine() -> None:
    left = available_memory_bytes()
    assert left is not None
    assert left > 0


def test_the_peak_is_what_this_process_had_at_most_since_it_was_forgotten() -> None:
    size = 64 << 20
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    with_it = peak_resident_bytes()
    assert with_it >= resident_bytes() >= size
    del held
    forget_peak()
    assert peak_resident_bytes() < with_it


@pytest.mark.parametrize(
    ("limit", "used", "unused", "left"),
    [("1000", "400", "100", 700), ("1000", "1200", "0", 0), ("max", "400", "100", None), ("1000", "", "", None)],
)
def test_what_the_limit_of_a_version_2_group_leaves(
    tmp_path: Path, limit: str, used: str, unused: str, left: int | None
) -> None:
    _write(tmp_path / "fs/job/memory.max", f"{limit}\n")
    _write(tmp_path / "fs/job/memory.current", f"{used}\n")
    _write(tmp_path / "fs/job/memory.stat", f"anon 3\ninactive_file {unused}\nactive_file 5\n")
    assert limit_left_bytes(_own(tmp_path, "0::/job\n"), tmp_path / "fs") == left


def test_the_tightest_memory_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    for folder, limit in (("outer/inner", 5000), ("outer", 300)):
        _write(tmp_path / f"fs/{folder}/memory.max", f"{limit}\n")
        _write(tmp_path / f"fs/{folder}/memory.current", "100\n")
    assert limit_left_bytes(_own(tmp_path, "0::/outer/inner\n"), tmp_path / "fs") == 200


def test_what_the_limit_of_a_version_1_group_leaves(tmp_path: Path) -> None:
    _write(tmp_path / "fs/memory/job/memory.limit_in_bytes", "1000\n")
    _write(tmp_path / "fs/memory/job/memory.usage_in_bytes", "900\n")
    _write(tmp_path / "fs/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 250\n")
    own = _own(tmp_path, "7:memory:/job\n3:cpu,cpuacct:/job\n")
    assert limit_left_bytes(own, tmp_path / "fs") == 350


def test_a_machine_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert limit_left_bytes(tmp_path / "absent", tmp_path / "absent") is None
