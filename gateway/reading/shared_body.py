"""A body in a memory file, which a reader can be given."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable

from sluice.inference.errors import Unavailable

_FINAL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class SharedBody:
    """Bytes in a memory file, which are put there piece by piece and then sealed. Owns the file until `close`.

    Its methods may run in any thread, one at a time. They release the interpreter lock while they copy. They raise
    `Unavailable` where the machine has no memory or no descriptors left.
    """

    __slots__ = ("descriptor", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self.descriptor = -1
        try:
            self.descriptor = os.memfd_create("sluice-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise _no_room(error) from error

    def __len__(self) -> int:
        return self.size_bytes

    def __del__(self) -> None:
        self.close()

    def put(self, piece: bytes | bytearray | memoryview) -> None:
        """Add a piece at the end."""
        left = memoryview(piece)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except OSError as error:
            raise _no_room(error) from error
        self.size_bytes += len(piece)

    def put_all(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Add one piece after another."""
        for piece in pieces:
            self.put(piece)

    def seal(self) -> None:
        """Forbid every later change of the file."""
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _FINAL)
        except OSError as error:
            raise _no_room(error) from error

    def whole(self) -> bytes:
        """A copy of all the bytes."""
        pieces: list[bytes] = []
        at = 0
        while at < self.size_bytes:
            piece = os.pread(self.descriptor, self.size_bytes - at, at)
            pieces.append(piece)
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the file. The kernel frees the memory once no reader has it open."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _no_room(error: OSError) -> Unavailable:
    return Unavailable(f"there is no memory to read a large request: {error.strerror}")
