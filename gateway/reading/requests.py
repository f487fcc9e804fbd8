"""A request in shared memory: a reader writes it, and the gateway uses it in place."""

from __future__ import annotations

import asyncio
import math
import mmap

import msgspec
import numpy as np

from sluice.gateway.dialects.base import Callee
from sluice.gateway.reading.messages import Decoded
from sluice.gateway.reading.replies import packed, unpacked
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.transport.arena import LentMemory, SharedMemory
from sluice.inference.transport.layout import Placed, plan, views, write
from sluice.inference.types import Array, Caching, Datatype, InferenceRequest, ParameterValue, Shape, Tensor

STRINGS_AT_A_TIME = 4096
"""Elements of BYTES that are made between two turns of the event loop. They take less than a millisecond."""

STRING_BYTES = 56
"""What an element of BYTES takes besides its bytes, at most: the object, rounded up, and its place in the array."""

_LENGTH_BYTES = 4


class _Lies(msgspec.Struct, frozen=True, array_like=True):
    name: str
    datatype: Datatype
    placed: Placed


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """A request without its arrays. `tensors` are those of the inputs, and then those of each part."""

    tensors: tuple[_Lies, ...]
    sizes: tuple[int, ...]
    outputs: tuple[str, ...]
    id: str | None
    parameters: dict[str, ParameterValue]
    timeout_s: float | None
    priority: int
    client: str
    caching: Caching
    reply: bytes


_HEAD = msgspec.msgpack.Decoder(_Head)


def shared(request: InferenceRequest, limit_bytes: int) -> tuple[Decoded, SharedMemory]:
    """Write the request into shared memory, which the caller has to close.

    Raises `InvalidRequest` and `RequestTooLarge`.
    """
    groups = (request.inputs, *request.parts)
    tensors = [tensor for group in groups for tensor in group]
    _check_strings(tensors, limit_bytes)
    planned = plan([(tensor.array,) for tensor in tensors])
    head = _Head(
        tensors=tuple(
            [
                _Lies(tensor.name, tensor.datatype, placed)
                for tensor, placed in zip(tensors, planned.placed, strict=True)
            ]
        ),
        sizes=tuple(map(len, groups)),
        outputs=request.outputs,
        id=request.id,
        parameters=dict(request.parameters),
        timeout_s=request.timeout_s,
        priority=request.priority,
        client=request.client,
        caching=request.caching,
        reply=packed(request.reply),
    )
    try:
        said = msgspec.msgpack.encode(head)
    except OverflowError:
        raise InvalidRequest("a number among the parameters has more than 64 bits; expected one of 64 bits") from None
    memory = SharedMemory.create(planned.size_bytes + len(said))
    try:
        write(planned, memory.buffer, 0)
        memory.buffer[planned.size_bytes :] = said
    except BaseException:
        memory.close()
        raise
    return Decoded(planned.size_bytes + len(said), planned.size_bytes), memory


class RequestTaken(msgspec.Struct, frozen=True):
    """A request that was read, the memory that has its numbers, and the size of everything that it takes."""

    request: InferenceRequest
    memory: LentMemory
    size_bytes: int


async def taken(decoded: Decoded, descriptor: int, callee: Callee) -> RequestTaken:
    """The request that a reader has sent. Its numbers stay in the shared memory, which lives as long as the arrays.

    Strings are made one after another, and other tasks have their turn in between. Closes the descriptor. Raises
    `OSError`.
    """
    buffer = LentMemory(descriptor, decoded.size_bytes)
    head = _HEAD.decode(buffer[decoded.head_at :])
    tensors: list[Tensor] = []
    for each in head.tensors:
        if each.datatype is Datatype.BYTES:
            array = await _strings(buffer, each.placed)
        else:
            [array] = views(buffer, 0, (each.placed,), (each.datatype,))
        tensors.append(Tensor(each.name, each.datatype, array))
    groups: list[tuple[Tensor, ...]] = []
    at = 0
    for size in head.sizes:
        groups.append(tuple(tensors[at : at + size]))
        at += size
    request = InferenceRequest(
        inputs=groups[0],
        outputs=head.outputs,
        id=head.id,
        parameters=head.parameters,
        timeout_s=head.timeout_s,
        priority=head.priority,
        client=head.client,
        caching=head.caching,
        parts=tuple(groups[1:]),
    )
    request = msgspec.structs.replace(request, reply=unpacked(head.reply, request, callee))
    return RequestTaken(request, buffer, decoded.size_bytes + _strings_bytes(request))


def _strings_bytes(request: InferenceRequest) -> int:
    """The approximate memory of the request's BYTES besides the file that they came in."""
    groups = (request.inputs, *request.parts)
    return sum(
        [STRING_BYTES * each.array.size for group in groups for each in group if each.datatype is Datatype.BYTES]
    )


def _check_strings(tensors: list[Tensor], limit_bytes: int) -> None:
    """Bound the strings of a request by the memory that they take in the gateway, where they become objects again."""
    elements = sum([tensor.array.size for tensor in tensors if tensor.datatype is Datatype.BYTES])
    if elements * STRING_BYTES > limit_bytes:
        raise RequestTooLarge(
            f"the body has {elements} strings, which take more memory than a body of its length may; send fewer of them"
        )


async def _strings(buffer: mmap.mmap, placed: Placed) -> Array:
    shape: Shape = placed.shape
    flat = np.empty(math.prod(shape), np.object_)
    encoded = memoryview(buffer)[placed.offset_bytes : placed.offset_bytes + placed.size_bytes]
    at = 0
    with encoded:
        for index in range(flat.size):
            begin = at + _LENGTH_BYTES
            at = begin + int.from_bytes(encoded[at:begin], "little")
            flat[index] = bytes(encoded[begin:at])
            if not (index + 1) % STRINGS_AT_A_TIME:
                await asyncio.sleep(0)
    return flat.reshape(shape)
