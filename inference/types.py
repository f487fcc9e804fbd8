"""The words that every room uses: datatypes, tensors, signatures, requests and responses.

These values are made several times per prediction, so they are frozen `msgspec.Struct`s: the contract of a
frozen slotted dataclass, built nine times faster (docs/decisions/0002-structs-for-hot-values.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = tuple[Array, ...]
"""One array per input (or output), in the order of the model's signature, in storage dtypes."""

Shape: TypeAlias = tuple[int, ...]
ParameterValue: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, ParameterValue]

NO_PARAMETERS: Parameters = MappingProxyType({})

LOWEST_PRIORITY = 9
DEFAULT_PRIORITY = 5
"""Priorities are whole numbers, and 1 is the highest, as in Triton's scheduler."""


class Datatype(StrEnum):
    """A tensor element type, by its name in the Open Inference Protocol V2."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


STORAGE: Mapping[Datatype, np.dtype[Any]] = MappingProxyType(
    {
        Datatype.BOOL: np.dtype(np.bool_),
        Datatype.UINT8: np.dtype(np.uint8),
        Datatype.UINT16: np.dtype(np.uint16),
        Datatype.UINT32: np.dtype(np.uint32),
        Datatype.UINT64: np.dtype(np.uint64),
        Datatype.INT8: np.dtype(np.int8),
        Datatype.INT16: np.dtype(np.int16),
        Datatype.INT32: np.dtype(np.int32),
        Datatype.INT64: np.dtype(np.int64),
        Datatype.FP16: np.dtype(np.float16),
        Datatype.BF16: np.dtype(np.uint16),
        Datatype.FP32: np.dtype(np.float32),
        Datatype.FP64: np.dtype(np.float64),
        Datatype.BYTES: np.dtype(np.object_),
    }
)
"""How a datatype lies in memory. numpy has no bfloat16: BF16 is carried as its 16 bits. BYTES elements are `bytes`."""


FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)


class Tensor(msgspec.Struct, frozen=True):
    """A named array with its datatype.

    `array` is C-contiguous, has the dtype `STORAGE[datatype]`, and belongs to the tensor: nobody writes to it.
    """

    name: str
    datatype: Datatype
    array: Array


class TensorSpec(msgspec.Struct, frozen=True):
    """What a model says of one input or output. `shape` counts every axis; `None` is an axis of any size."""

    name: str
    datatype: Datatype
    shape: tuple[int | None, ...]


class Signature(msgspec.Struct, frozen=True):
    """A model's inputs and outputs, in its own order.

    `batched` is true where axis 0 of every input and output is the batch axis: rows of different requests may then
    be stacked. Otherwise each request runs by itself and counts as one row.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


class BatchResult(msgspec.Struct, frozen=True):
    """What a worker gave back for one batch.

    `outputs` has one array per wanted output. Of a batched model, axis 0 has the rows of all stacked parts, in order.
    `compute_s` is the time that the engine ran, measured in the worker. `run_s` is how long the batch kept its worker,
    by the worker's clock: from when it was sent, or from the end of the batch before it, to its own end. What the
    gateway takes to come to the answer is not in it. `began_s` is when the engine began, monotonic: on Linux that clock
    is the same for all processes of a machine.
    """

    outputs: Arrays
    compute_s: float
    run_s: float
    began_s: float = 0.0


class Vacancy(msgspec.Struct, frozen=True):
    """Room for batches. `idle` workers have nothing to do; `spare` further batches could wait behind running ones.

    `workers` is how many live, with room or without.
    """

    idle: int
    spare: int
    workers: int


class Cause(StrEnum):
    """What a worker process died of, as far as the gateway can know."""

    CRASHED = "crashed"
    """A fault of its own: SIGSEGV, SIGABRT, SIGBUS and the like, or it ended by itself."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel killed it for want of memory, and has counted that."""
    TOO_LONG = "too_long"
    """It computed one batch for longer than it may, and the gateway killed it."""
    GARBLED = "garbled"
    """It broke the protocol, and the gateway killed it."""
    KILLED = "killed"
    """Somebody outside ended it: a signal that no run raises by itself, SIGKILL above all."""
    FROZEN = "frozen"
    """It did not answer and did not compute either: stopped, or without a processor. The gateway killed it."""
    DISMISSED = "dismissed"
    """The gateway killed it for a reason that has nothing to do with what it ran."""


class Death(msgspec.Struct, frozen=True):
    """How one worker died. `how` goes on after its name, in plain words, and says the rest, too.

    `ran_s` is for how long it had run its batch, `None` if it had nothing to do. `beside` counts other workers of this
    gateway, of whatever model, that died in the same second in a way that speaks of the machine and not of a batch.
    """

    cause: Cause
    how: str
    ran_s: float | None = None
    beside: int = 0


class Knot(msgspec.Struct, frozen=True, array_like=True):
    """One measured point of a latency curve: how long the engine typically runs a batch of so many rows."""

    rows: int
    run_s: float


def knot_rows(max_rows: int) -> tuple[int, ...]:
    """The rows at which latency curves have their knots: 1, 2, 4, … and `max_rows`."""
    return (*[1 << power for power in range((max_rows - 1).bit_length())], max_rows)


class Caching(StrEnum):
    """What one request lets the cache do."""

    USE = "use"
    RENEW = "renew"
    """Compute every row anew, and store the answers."""
    PASS = "pass"
    """Neither look anything up nor store anything."""


class CacheUse(msgspec.Struct, frozen=True, gc=False):
    """How many of a request's rows were found in the cache, or were being computed for somebody else already."""

    rows: int
    hits: int


class InferenceRequest(msgspec.Struct, frozen=True):
    """One prediction call, free of any dialect.

    `inputs` are in the caller's order. `outputs` names the wanted outputs in the wanted order; empty means all, in
    the order of the signature. `id` is the caller's own, echoed in the answer; `None` where it gave none.

    `timeout_s` is how long the caller is going to wait; `None` where it did not say. `priority` is from 1, the highest,
    to `LOWEST_PRIORITY`. `client` tells callers apart that are to get equal shares of an overloaded model.

    Of `parameters`, a dialect leaves here only those that it does not heed itself: any of them may change the answer.
    Rows of different shapes cannot be one array. `parts` has the inputs of those that are not in `inputs`, one tuple
    for each further shape: all parts are answered at the same time, and by themselves, so that what a row is asked
    together with changes neither its answer nor its key in the cache.
    `reply` is what the dialect wants to remember for the encoding of the answer; nobody else looks at it, and the
    outputs do not depend on it. `came_s` is when the call may have come, monotonic, where somebody knows.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    id: str | None = None
    parameters: Parameters = NO_PARAMETERS
    timeout_s: float | None = None
    priority: int = DEFAULT_PRIORITY
    client: str = ""
    caching: Caching = Caching.USE
    reply: object = None
    parts: tuple[tuple[Tensor, ...], ...] = ()
    came_s: float = math.inf


Trace: TypeAlias = object
"""The trace that a call belongs to, where it is recorded. The rooms hand it on and know nothing of it."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """A request that was taken in: known to be what the model takes, and free of names.

    `inputs` are in the signature's order, each with `rows` rows along axis 0 where the model is batched. `shape_key` is
    equal for queries whose rows may be stacked. `outputs` names the wanted outputs, at least one, in the wanted order.
    `deadline_s` is monotonic: after it nobody wants the answer. `trace` is there where the call is traced. The rest is
    as in `InferenceRequest`.
    """

    inputs: Arrays
    rows: int
    shape_key: tuple[Shape, ...]
    outputs: tuple[str, ...]
    deadline_s: float
    parameters: Parameters = NO_PARAMETERS
    priority: int = DEFAULT_PRIORITY
    client: str = ""
    caching: Caching = Caching.USE
    trace: Trace | None = None
    came_s: float = math.inf


class Timings(msgspec.Struct, frozen=True):
    """Where the time of one answer went, in seconds.

    `queue_s` is the wait for a batch, `batch_s` the batch's way to the worker, through the engine and back, and
    `compute_s` the engine's run in it. `cache_s` is what the cache took: digests, lookups, storing, and waiting for
    whoever computed the same rows. All but that, and `batch_rows`, the rows of the largest batch it travelled in, are
    zero where no model had to answer.
    """

    queue_s: float = 0.0
    batch_s: float = 0.0
    compute_s: float = 0.0
    cache_s: float = 0.0
    batch_rows: int = 0


class Recall(Protocol):
    """The entry of the cache that an answer was taken from, which takes `size_bytes` as long as somebody holds it."""

    @property
    def size_bytes(self) -> int: ...

    def again(self) -> bool:
        """Whether the same query would be answered from the very same entry now. If so, it counts as a hit."""
        ...


class InferenceResponse(msgspec.Struct, frozen=True):
    """The answer to one `InferenceRequest`: the wanted outputs, in the wanted order.

    `late` is true of one that came after its deadline: the model's objective, or what its caller asked for. `cached` is
    `None` where the cache was not asked, and `recall` where the answer was not taken from a single entry of it. `parts`
    has the outputs of the request's `parts`; the timings are then those of the slowest.
    """

    model: str
    version: int
    outputs: tuple[Tensor, ...]
    id: str | None = None
    parameters: Parameters = NO_PARAMETERS
    timings: Timings = Timings()
    late: bool = False
    cached: CacheUse | None = None
    recall: Recall | None = None
    parts: tuple[tuple[Tensor, ...], ...] = ()
