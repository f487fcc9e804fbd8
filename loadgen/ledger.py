"""Records every request of a run: one row each, from its intended time to its end."""

from __future__ import annotations

from array import array
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from sluice.loadgen.arrivals import Times

LOST = -1
TIMED_OUT = -2
UNSENT = -3
"""Ends without an answer, in the place of a status. The connection ended; no answer in time; no connection in time."""

Flags: TypeAlias = npt.NDArray[np.bool_]

_COLUMNS = 5


class EndedRequests(msgspec.Struct, frozen=True):
    """Requests that have ended, in the order of their ends. Arrays of one length; seconds on one clock.

    `outcome` is the status of the answer, or one of those above. `waited` were due while no connection was free. Those
    that were never sent have the time of their end as `sent_s`.
    """

    intended_s: Times
    sent_s: Times
    done_s: Times
    outcome: npt.NDArray[np.int64]
    waited: Flags

    def __len__(self) -> int:
        return len(self.intended_s)

    def latency_s(self) -> Times:
        """Seconds from the intended time to the end."""
        return self.done_s - self.intended_s


class Ledger:
    """Grows by 40 bytes for each request. Times are on one monotonic clock."""

    def __init__(self) -> None:
        self._rows = array("d")

    def __len__(self) -> int:
        return len(self._rows) // _COLUMNS

    def ended(self, intended_s: float, sent_s: float, done_s: float, outcome: int, waited: bool) -> None:
        """A request has ended, whichever way."""
        self._rows.extend((intended_s, sent_s, done_s, outcome, waited))

    def requests(self, begun_s: float, first: int = 0) -> EndedRequests:
        """A copy of the rows from `first` on, with seconds from `begun_s`."""
        table = np.array(self._rows[first * _COLUMNS :]).reshape(-1, _COLUMNS)
        intended_s, sent_s, done_s = (table[:, :3] - begun_s).T
        return EndedRequests(intended_s, sent_s, done_s, table[:, 3].astype(np.int64), table[:, 4].astype(np.bool_))
