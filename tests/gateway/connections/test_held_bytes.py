from __future__ import annotations

import pytest

from sluice.gateway.connections.held_bytes import HeldBytes, HeldShare
from sluice.inference.errors import Unavailable


def test_what_fits_is_up_to_the_limit() -> None:
    held = HeldBytes(10)
    with held.holding(6):
        assert (held.fits(4), held.fits(5), held.over) == (True, False, False)
        with held.holding(5):
            assert held.over
    assert held.now_bytes == 0


def test_a_share_grows_while_there_is_room_and_is_given_back() -> None:
    held = HeldBytes(10)
    with HeldShare(held) as share:
        share.grow(4)
        share.grow(6)
        with pytest.raises(Unavailable, match=r"limit of 10 bytes \(server.max_buffered_bytes\)"):
            share.grow(1)
        assert (share.size_bytes, held.now_bytes) == (10, 10)
        share.become(12)
        assert (held.now_bytes, held.over) == (12, True)
    assert held.now_bytes == 0
