"""Makes the C library give large blocks of memory back to the system."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1024 * 1024
_M_MMAP_THRESHOLD = -3  # malloc.h


def give_large_blocks_back() -> None:
    """Have blocks of `LARGE_BYTES` and more given back to the system as soon as they are freed.

    By default glibc raises that threshold with each large block that is freed, up to 32 MiB, and keeps smaller blocks
    in its heap, where one small block behind them holds them there. The bodies and answers of a bad minute would then
    stay in the memory of the process until its end. Nothing happens with a C library without `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
