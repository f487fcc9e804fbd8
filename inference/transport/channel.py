"""A channel between two processes: messages of msgpack, one in each packet, and descriptors that travel with them.

Each direction has a socket of its own. With one socket for both, a process that dies before it has read an order leaves
an error on the other end instead of a plain end of file. asyncio calls the reader for such an error; uvloop closes its
watch and does not call the reader.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import Generic, TypeVar

import msgspec

PACKET_BYTES = 128 << 10
"""The largest message: a few thousand tensors. The kernel's default limit for a packet is larger."""

TEXT_BYTES = 4 << 10
"""The longest text in a message, such as the words of an engine, in UTF-8."""

NAMES_BYTES = 64 << 10
"""The most bytes of class names in one message, all together."""

_PASSING = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ETOOMANYREFS}
)
_TRUNCATED = int(socket.MSG_TRUNC)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_DESCRIPTOR_BYTES = array.array("i").itemsize
_ENCODER = msgspec.msgpack.Encoder()

ReceivedT = TypeVar("ReceivedT")


class Ends(msgspec.Struct, frozen=True):
    """The two sockets of one side."""

    sends: socket.socket
    receives: socket.socket

    def descriptors(self) -> tuple[int, int]:
        """The descriptors of `sends` and of `receives`."""
        return self.sends.fileno(), self.receives.fileno()

    def close(self) -> None:
        """Closes both."""
        self.sends.close()
        self.receives.close()


class Channel(Generic[ReceivedT]):
    """Sends and receives messages over one side's sockets, and owns them.

    Blocks if the sockets do. A packet is received as a whole or refused with `WireError`.
    """

    def __init__(self, ends: Ends, decoder: msgspec.msgpack.Decoder[ReceivedT]) -> None:
        self._ends = ends
        self._sends = ends.sends
        self._receives = ends.receives
        self._decoder = decoder
        self._packet = memoryview(bytearray(PACKET_BYTES))
        self._room = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to receive; -1 once the channel is closed."""
        return self._receives.fileno()

    def send(self, message: msgspec.Struct, descriptor: int | None = None) -> None:
        """Sends one message. Raises `PeerGone`, `NotSent`, or `WireError` if the socket takes no messages any more."""
        packet = _ENCODER.encode(message)
        if len(packet) > PACKET_BYTES:
            raise NotSent(f"a message of {len(packet)} bytes; at most {PACKET_BYTES} can be sent")
        try:
            if descriptor is None:
                self._sends.send(packet)
            else:
                socket.send_fds(self._sends, [packet], [descriptor])
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise PeerGone from gone
        except OSError as refused:
            kind = NotSent if refused.errno in _PASSING else WireError
            raise kind(f"the socket did not take a message: {refused.strerror}") from refused

    def receive(self) -> tuple[ReceivedT, int | None]:
        """The next message, and the descriptor that came with it, which the caller now owns.

        Raises `PeerGone`, `WireError`, and `BlockingIOError` if the socket does not block and there is no message.
        """
        size, ancillary, flags, _ = self._receives.recvmsg_into([self._packet], self._room, _CLOSE_ON_EXEC)
        descriptor = _descriptor(ancillary) if ancillary else None
        if size == 0:
            raise PeerGone
        try:
            if flags & _TRUNCATED:
                raise WireError(f"a message of more than {PACKET_BYTES} bytes was received")
            return self._decoder.decode(self._packet[:size]), descriptor
        except (msgspec.MsgspecError, WireError) as unreadable:
            if descriptor is not None:
                os.close(descriptor)
            raise WireError(str(unreadable)) from unreadable

    def close(self) -> None:
        """Closes the sockets. The other side's next `send` or `receive` raises `PeerGone`."""
        self._ends.close()


class PeerGone(Exception):
    """The other side has closed its sockets, or its process has ended."""


class WireError(Exception):
    """A message cannot be sent, or what was received is no known message."""


class NotSent(WireError):
    """This one message is too large, or the kernel has no room for it now. Other messages can still be sent."""


def clipped(text: str) -> str:
    """The text, cut to its first `TEXT_BYTES` and an ellipsis if it is longer, so that it can be sent."""
    encoded = text.encode(errors="replace")
    return encoded.decode() if len(encoded) <= TEXT_BYTES else encoded[:TEXT_BYTES].decode(errors="ignore") + "…"


def connected() -> tuple[Ends, Ends]:
    """The ends of both sides: Unix sockets that keep packets apart. A child process inherits only what it is passed."""
    our_sends, their_receives = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        their_sends, our_receives = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        our_sends.close()
        their_receives.close()
        raise
    return Ends(our_sends, our_receives), Ends(their_sends, their_receives)


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    descriptors: array.array[int] = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % _DESCRIPTOR_BYTES])
    return descriptors[0] if descriptors else None
