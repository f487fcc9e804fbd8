from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference.machine import available_cores, quota_cores


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
