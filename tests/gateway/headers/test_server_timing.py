"""What `Server-Timing` says."""

from __future__ import annotations

from sluice.gateway.headers.server_timing import server_timing, total_timing
from sluice.inference.types import Timings


def test_a_computed_answer_names_every_phase() -> None:
    timings = Timings(queue_s=0.0015, batch_s=0.021, compute_s=0.02, cache_s=0.00001, batch_rows=17)
    assert server_timing(timings, 0.0219, cached=True) == (
        b'queue;dur=1.500, batch;dur=21.000;desc="rows=17", compute;dur=20.000, cache;dur=0.010, total;dur=21.900'
    )


def test_what_did_not_happen_is_not_named() -> None:
    assert server_timing(Timings(cache_s=0.001), 0.002, cached=True) == b"cache;dur=1.000, total;dur=2.000"
    assert server_timing(Timings(batch_rows=1), 0.002, cached=False) == (
        b'queue;dur=0.000, batch;dur=0.000;desc="rows=1", compute;dur=0.000, total;dur=2.000'
    )
    assert total_timing(0.0) == b"total;dur=0.000"
