"""The header `Server-Timing`, in which every answer says how long its phases took. Pure.

https://www.w3.org/TR/server-timing/ is the specification.
"""

from __future__ import annotations

from sluice.inference.types import Timings


def server_timing(timings: Timings, total_s: float, *, cached: bool) -> bytes:
    """The value of the header, durations in milliseconds.

    `queue`, `batch` and `compute` are there if a model ran: the wait for a batch; the batch from its dispatch to its
    answer, with its number of rows; and the run of the engine in that time. `cache` is there if the cache was asked
    (`cached`). `total` is the time from the complete request to the encoded answer.
    """
    phases = b""
    if timings.batch_rows:
        phases = b'queue;dur=%.3f, batch;dur=%.3f;desc="rows=%d", compute;dur=%.3f, ' % (
            timings.queue_s * 1e3,
            timings.batch_s * 1e3,
            timings.batch_rows,
            timings.compute_s * 1e3,
        )
    if cached:
        return b"%bcache;dur=%.3f, total;dur=%.3f" % (phases, timings.cache_s * 1e3, total_s * 1e3)
    return b"%btotal;dur=%.3f" % (phases, total_s * 1e3)


def total_timing(total_s: float) -> bytes:
    """The value of the header for a call that was refused or failed."""
    return b"total;dur=%.3f" % (total_s * 1e3)
