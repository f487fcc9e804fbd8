"""What the machine gives this process: the processor cores that it may use at once."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Whole cores that this process may keep busy: its affinity, or less under a CPU quota, and at least one.

    A quota counts as its whole cores. More threads than that would be throttled, all of them at the same time.
    """
    cores = len(os.sched_getaffinity(0))
    quota = quota_cores(OWN_CGROUPS, CGROUPS)
    return cores if quota is None else max(1, min(cores, int(quota)))


def quota_cores(own_cgroups: Path, cgroups: Path) -> float | None:
    """The tightest CPU quota of this process' control groups, in cores, or `None` where there is none.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (`cpu.max`) and scheduler/sched-bwc.rst
    (`cpu.cfs_quota_us`). A group's quota binds every group below it, so all the way up to the root counts.
    """
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_v2(folder) for folder in _upwards(cgroups, path)]
        elif "cpu" in controllers.split(","):
            for mount in {cgroups / controllers, cgroups / "cpu"}:
                quotas += [_quota_v1(folder) for folder in _upwards(mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _upwards(mount: Path, path: str) -> list[Path]:
    folder = mount / path.strip("/")
    return [folder, *[parent for parent in folder.parents if parent.is_relative_to(mount)]]


def _quota_v2(folder: Path) -> float | None:
    fields = _read(folder / "cpu.max").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return int(fields[0]) / int(fields[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if not quota or not period or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
