"""A worker that the kernel kills because memory runs out, in a control group of its own, if one can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import sluice
from sluice.inference.planning.machine import CGROUPS
from tests import models

LIMIT_BYTES = 400 << 20
LARGE = 10**9

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
import numpy as np
from sluice.inference.errors import WorkerDied
from sluice.inference.planning.options import WorkerOptions
from sluice.inference.workers.pool import Workers

async def main():
    vacant = asyncio.Event()
    options = WorkerOptions(count=1, intra_op_threads=1, max_rows=1)
    async with Workers(Path(sys.argv[1]), options, on_vacancy=vacant.set, on_restart=lambda: None) as workers:
        for size in (10, int(sys.argv[3]), 10):
            x = (np.ones((1, 1), np.float32), np.array([[size]]))
            try:
                print("sum", (await workers.run([x], ["y"])).outputs[0].tolist())
            except WorkerDied as died:
                print(died.death.cause, died)
            while not workers.vacancy().idle:
                vacant.clear()
                await vacant.wait()

asyncio.run(main())
"""


@pytest.fixture(name="group")
def _group() -> Iterator[Path]:
    """A control group whose processes have little memory."""
    version_1 = (CGROUPS / "memory").is_dir()
    folder = CGROUPS / ("memory" if version_1 else "") / f"sluice-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(LIMIT_BYTES))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


def test_a_worker_that_is_killed_for_want_of_memory_is_told_from_others(group: Path, tmp_path: Path) -> None:
    model = models.place(models.spread(), tmp_path)
    packages = str(Path(sluice.__file__).parent.parent)
    command = [sys.executable, "-c", SCRIPT, str(model), str(group), str(LARGE)]
    ended = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=120, check=False)
    first, second, third = ended.stdout.splitlines() or [ended.stderr] * 3
    assert first == third == "sum [[10.0]]"
    assert second.startswith("out_of_memory worker process ")
    assert "was ended by SIGKILL for want of memory" in second
