from __future__ import annotations

import pytest

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.process import open_files


@pytest.mark.parametrize(
    ("limit", "open_now", "allowed"),
    [
        (100_000, 50, 10_000),
        (-1, 50, 10_000),  # no limit
        (1024, 50, (1024 - 256) * 8 // 9),
        (200, 20, 200 - 100 - 16),  # half of a low limit is kept
        (200, 120, 1),  # or what is open already, and 64 more
    ],
)
def test_connections_leave_room_for_all_other_files(
    monkeypatch: pytest.MonkeyPatch, limit: int, open_now: int, allowed: int
) -> None:
    monkeypatch.setattr(open_files, "_descriptor_limit", lambda: limit)
    monkeypatch.setattr(open_files, "open_descriptors", lambda: open_now)
    budget = ConnectionBudget(5)
    open_files.bound_connections(budget, wanted=10_000)
    assert budget.limit == allowed
