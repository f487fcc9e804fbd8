"""The resources of this process: the processor cores that it may use at once, and the memory that is left."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
OWN_STATUS = Path("/proc/self/status")
OWN_PEAK = Path("/proc/self/clear_refs")
VMSTAT = Path("/proc/vmstat")


def available_cores() -> int:
    """Whole cores that this process may keep busy: its affinity, or less under a CPU quota, and at least one.

    A quota is rounded down to whole cores. More threads than that would all be throttled at the same time.
    """
    cores = len(os.sched_getaffinity(0))
    quota = quota_cores(OWN_CGROUPS, CGROUPS)
    return cores if quota is None else max(1, min(cores, int(quota)))


def quota_cores(own_cgroups: Path, cgroups: Path) -> float | None:
    """The lowest CPU quota of this process' control groups, in cores; `None` if there is none.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (`cpu.max`) and scheduler/sched-bwc.rst
    (`cpu.cfs_quota_us`). A group's quota limits every group below it, so all groups up to the root count.
    """
    quotas = []
    for version, folder in _groups(own_cgroups, cgroups, "cpu"):
        quotas.append(_quota_v2(folder) if version == 2 else _quota_v1(folder))
    return min((quota for quota in quotas if quota is not None), default=None)


def available_memory_bytes() -> int | None:
    """Memory that this process and its children can still use before anything is swapped out or killed.

    This is the kernel's estimate for the machine, or less under a memory limit; `None` if the kernel does not say.
    """
    kibibytes = _field(_read(MEMINFO), "MemAvailable")
    left = [None if kibibytes is None else 1024 * kibibytes, limit_left_bytes(OWN_CGROUPS, CGROUPS)]
    return min((each for each in left if each is not None), default=None)


def limit_left_bytes(own_cgroups: Path, cgroups: Path) -> int | None:
    """What the lowest memory limit of this process' control groups leaves; `None` if there is no limit.

    File pages that were not used lately count as left, since the kernel reclaims them first. Source: the kernel's
    Documentation/admin-guide/cgroup-v2.rst (`memory.max`, `memory.stat`) and cgroup-v1/memory.rst.
    """
    left = []
    for version, folder in _groups(own_cgroups, cgroups, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else _MEMORY_V1
        limit, used = [_read(folder / name) for name in names]
        if not limit.isdigit() or not used.isdigit():
            continue
        unused = _field(_read(folder / "memory.stat"), "inactive_file" if version == 2 else "total_inactive_file")
        left.append(max(0, int(limit) - int(used) + (unused or 0)))
    return min(left, default=None)


def oom_kills(own_cgroups: Path = OWN_CGROUPS, cgroups: Path = CGROUPS, vmstat: Path = VMSTAT) -> int:
    """How many processes in this process' own control group the kernel has killed because memory ran out.

    Counted for the whole machine if no group can be seen; 0 if the kernel does not say. Source: the kernel's
    Documentation/admin-guide/cgroup-v2.rst (`memory.events`) and cgroup-v1/memory.rst (`memory.oom_control`).
    """
    for version, folder in _groups(own_cgroups, cgroups, "memory"):
        count = _field(_read(folder / ("memory.events" if version == 2 else "memory.oom_control")), "oom_kill")
        if count is not None:
            return count
    return _field(_read(vmstat), "oom_kill") or 0


def resident_bytes() -> int:
    """The resident memory of this process; 0 if the kernel does not say."""
    return 1024 * (_field(_read(OWN_STATUS), "VmRSS") or 0)


def peak_resident_bytes() -> int:
    """The largest `resident_bytes` since `forget_peak`, or since the process began."""
    return 1024 * (_field(_read(OWN_STATUS), "VmHWM") or 0)


def forget_peak() -> None:
    """Resets `peak_resident_bytes`. Source: the kernel's Documentation/filesystems/proc.rst (`clear_refs`, 5)."""
    with suppress(OSError):
        OWN_PEAK.write_text("5")


_MEMORY_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _groups(own_cgroups: Path, cgroups: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The folders of the control groups that limit this process, each with the version of its files."""
    for line in _read(own_cgroups).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from [(2, folder) for folder in _upwards(cgroups, path)]
        elif controller in controllers.split(","):
            for mount in {cgroups / controllers, cgroups / controller}:
                yield from [(1, folder) for folder in _upwards(mount, path)]


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


def _field(text: str, name: str) -> int | None:
    """The number of a line such as `VmRSS:   1024 kB` or `inactive_file 4096`."""
    match = re.search(rf"^{name}:?\s+([0-9]+)", text, re.MULTILINE)
    return None if match is None else int(match[1])


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
