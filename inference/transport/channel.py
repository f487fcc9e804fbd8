"""What the gateway and a worker say to each other, and the sockets that carry it.

    gateway                      worker
    Load            ->
                    <-           Loaded | LoadFailed
    Share (+ arena) ->
    Run (+ inputs)  ->                                  at most `arena.SLOTS` of them unanswered
                    <-           Done (+ outputs) | Failed      in the order of the runs

A message is one packet of msgpack. "+" is memory whose descriptor travels with the packet: the arena always, inputs and
outputs where they are larger than the slot (`own_bytes` says how large; 0 means that they lie in the slot). Datatypes
are not said: both sides know the signature.

Each way has a socket of its own. On a single one, a worker that dies with an order unread would leave an error on the
gateway's end in place of a plain end of file: asyncio calls the reader for it, uvloop closes its watch and does not.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import Generic, TypeAlias, TypeVar

import msgspec

from sluice.inference.findings import Batched, Findings
from sluice.inference.planning.plan import PlanTerms, ServingPlan
from sluice.inference.transport.arena import ArenaShape
from sluice.inference.transport.layout import Placed
from sluice.inference.types import Signature


class KnownVersion(msgspec.Struct, frozen=True, array_like=True):
    """What the first worker of a version found out, and the others are told."""

    signature: Signature
    findings: Findings


class Load(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first order to a worker: the model, what to run it on, and the plan to serve it by.

    The first worker of a version is given the terms instead, tries and measures the model, and makes the plan. `apart`
    are files of weights that lie outside the model's folder, by the model's names for them. `sample` is the file of a
    valid request to try it with. The others are given what is `known` since, and try nothing.
    """

    model_file: str
    device: str
    plan: ServingPlan | PlanTerms
    batched: Batched = None
    apart: tuple[str, ...] = ()
    sample: str | None = None
    known: KnownVersion | None = None


class ShareArena(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The arena, which comes with this message."""

    shape: ArenaShape


class Run(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One batch. `outputs` are the wanted ones, as places in the signature."""

    slot: int
    inputs: tuple[Placed, ...]
    outputs: tuple[int, ...]
    own_bytes: int


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The model is loaded, and warm unless it could not be tried.

    `notes` say in plain words what is served otherwise than the file has it. `class_names` are those that the file has
    for the columns of an output, by output.
    """

    signature: Signature
    plan: ServingPlan
    findings: Findings
    notes: tuple[str, ...] = ()
    class_names: dict[str, tuple[str, ...]] = {}


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The model cannot be loaded; the worker ends."""

    message: str


class Done(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The oldest batch has its outputs. `began_s`, when the engine began, is on the clock of the whole machine."""

    outputs: tuple[Placed, ...]
    own_bytes: int
    began_s: float
    compute_s: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The oldest batch failed; the worker goes on."""

    message: str
    invalid_input: bool


Order: TypeAlias = Load | ShareArena | Run
Answer: TypeAlias = Loaded | LoadFailed | Done | Failed

ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

PACKET_BYTES = 128 << 10
"""The largest message: a few thousand tensors. The kernel's default limit for a packet is larger."""

TEXT_BYTES = 4 << 10
"""The longest words of an engine that are passed on, in UTF-8."""

NAMES_BYTES = 64 << 10
"""Names of classes in one message, all together."""

_PASSING = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ETOOMANYREFS}
)
_TRUNCATED = int(socket.MSG_TRUNC)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_DESCRIPTOR_BYTES = array.array("i").itemsize
_ENCODER = msgspec.msgpack.Encoder()

ReceivedT = TypeVar("ReceivedT")


class Ends(msgspec.Struct, frozen=True):
    """One side's two sockets."""

    sends: socket.socket
    receives: socket.socket

    def descriptors(self) -> tuple[int, int]:
        """Of `sends` and of `receives`."""
        return self.sends.fileno(), self.receives.fileno()

    def close(self) -> None:
        """Closes both."""
        self.sends.close()
        self.receives.close()


class Channel(Generic[ReceivedT]):
    """Messages over one side's sockets. Owns the sockets.

    Blocks as they do. A packet is received whole or refused with `WireError`.
    """

    def __init__(self, ends: Ends, decoder: msgspec.msgpack.Decoder[ReceivedT]) -> None:
        self._ends = ends
        self._sends = ends.sends
        self._receives = ends.receives
        self._decoder = decoder
        self._packet = memoryview(bytearray(PACKET_BYTES))
        self._room = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)

    def fileno(self) -> int:
        """The descriptor that is readable when there is something to receive; -1 once closed."""
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
        """The next message, and the descriptor that came with it, now the caller's.

        Raises `PeerGone`, and `BlockingIOError` if the socket does not block and there is nothing to read.
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
        """Closes the sockets, which the other side sees as `PeerGone`."""
        self._ends.close()


class PeerGone(Exception):
    """The other end is closed, or its process has ended."""


class WireError(Exception):
    """A message that cannot be sent, or is none of those above."""


class NotSent(WireError):
    """This one message is too large, or the kernel has no room for it now. The channel is as it was."""


def clipped(text: str) -> str:
    """The text, or its first `TEXT_BYTES` and an ellipsis: whatever an engine says, it can be sent."""
    encoded = text.encode(errors="replace")
    return encoded.decode() if len(encoded) <= TEXT_BYTES else encoded[:TEXT_BYTES].decode(errors="ignore") + "…"


def connected() -> tuple[Ends, Ends]:
    """Both sides' ends: Unix sockets that keep packets apart, inherited only by a process that they are passed to."""
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
