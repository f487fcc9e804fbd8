"""How the C library treats large blocks of memory."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1024 * 1024
_M_MMAP_THRESHOLD = -3  # malloc.h


def give_large_blocks_back() -> None:
    """Have blocks from `LARGE_BYTES` on given back to the system as soon as they are freed.

    Left alone, glibc gives them back at first, and from the first one that is freed on keeps ever larger ones for
    itself, where a small block behind them holds them for ever: bodies and answers of a bad minute would count in the
    memory of the process until its end. Nothing happens where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
