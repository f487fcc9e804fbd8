"""The values that every package uses: datatypes, tensors, signatures, requests and responses.

They are made several times per prediction, so they are frozen `msgspec.Struct`s: these behave as frozen dataclasses
with slots do, and are made nine times faster (docs/decisions/0002-structs-for-hot-values.md).
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
"""The numpy dtype in which each datatype is stored. numpy has no bfloat16: BF16 is stored as its 16 bits. The elements
of BYTES are `bytes` objects."""


FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)


class Tensor(msgspec.Struct, frozen=True):
    """A named array with its datatype.

    `array` is C-contiguous and has the dtype `STORAGE[datatype]`. It belongs to the tensor, and must not be written to.
    """

    name: str
    datatype: Datatype
    array: Array


class TensorSpec(msgspec.Struct, frozen=True):
    """What a model declares of one input or output. `shape` has every axis; `None` stands for an axis of any size."""

    name: str
    datatype: Datatype
    shape: tuple[int | None, ...]


class Signature(msgspec.Struct, frozen=True):
    """A model's inputs and outputs, in the model's own order.

    `batched` is true if axis 0 of every input and output is the batch axis: rows of different requests may then be
    stacked. Otherwise each request runs alone and counts as one row.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


class BatchResult(msgspec.Struct, frozen=True):
    """A worker's answer to one batch.

    `outputs` has one array for each wanted output. For a batched model, axis 0 has the rows of all stacked parts, in
    order. `compute_s` is how long the engine ran, measured in the worker. `run_s` is how long the batch occupied its
    worker: from when it was sent, or from the end of the batch before it, to its own end. It does not include the time
    that the gateway takes to read the answer. `began_s` is when the engine began, on the monotonic clock, which on
    Linux is the same for all processes of a machine.
    """

    outputs: Arrays
    compute_s: float
    run_s: float
    began_s: float = 0.0


class Vacancy(msgspec.Struct, frozen=True):
    """How many batches a model's workers can take now.

    `idle` workers run nothing. `spare` further batches could wait behind those that run. `workers` is the number of
    living workers, whether they can take a batch or not.
    """

    idle: int
    spare: int
    workers: int


class Cause(StrEnum):
    """Why a worker process died, as far as the gateway can tell."""

    CRASHED = "crashed"
    """It crashed by SIGSEGV, SIGABRT, SIGBUS or a similar signal, or ended by itself."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel killed it because memory ran out, and counted that."""
    TOO_LONG = "too_long"
    """It computed one batch for longer than allowed, and the gateway killed it."""
    GARBLED = "garbled"
    """It broke the protocol, and the gateway killed it."""
    KILLED = "killed"
    """It was killed from outside, by a signal that no run raises by itself, usually SIGKILL."""
    FROZEN = "frozen"
    """It neither answered nor computed: it was stopped or got no processor time. The gateway killed it."""
    DISMISSED = "dismissed"
    """The gateway killed it for a reason that has nothing to do with the batch that it ran."""


class Death(msgspec.Struct, frozen=True):
    """How one worker died.

    `how` says it all in plain words, as the rest of a sentence that begins with the worker's name. `ran_s` is how long
    the worker had run its batch; `None` if it ran none. `beside` counts the workers of this gateway, of any model, that
    died within the same second in a way that points to the machine rather than to a batch.
    """

    cause: Cause
    how: str
    ran_s: float | None = None
    beside: int = 0


class Knot(msgspec.Struct, frozen=True, array_like=True):
    """One measured point of a latency curve: the typical time in which the engine runs a batch of `rows` rows."""

    rows: int
    run_s: float


def knot_rows(max_rows: int) -> tuple[int, ...]:
    """The numbers of rows at which latency curves have knots: 1, 2, 4, … and `max_rows`."""
    return (*[1 << power for power in range((max_rows - 1).bit_length())], max_rows)


class Caching(StrEnum):
    """What the cache may do for one request."""

    USE = "use"
    RENEW = "renew"
    """Compute every row again, and store the answers."""
    PASS = "pass"
    """Do not look anything up, and do not store anything."""


class CacheUse(msgspec.Struct, frozen=True, gc=False):
    """How many of a request's rows were in the cache, or were already being computed for another request."""

    rows: int
    hits: int


class InferenceRequest(msgspec.Struct, frozen=True):
    """One prediction call, independent of the dialect in which it came.

    `inputs` are in the caller's order. `outputs` names the wanted outputs in the wanted order; empty means all, in
    the order of the signature. `id` is the caller's own, and is echoed in the answer; `None` if it gave none.

    `timeout_s` is how long the caller will wait; `None` if it did not say. `priority` is from 1, the highest, to
    `LOWEST_PRIORITY`. `client` tells callers apart that are to get equal shares of an overloaded model.

    `parameters` are those that the dialect does not act on itself: any of them may change the answer.
    Rows of different shapes cannot be one array. `parts` has the inputs of the rows that are not in `inputs`, one tuple
    for each further shape. All parts are answered at the same time, each by itself, so that the other rows in a request
    change neither the answer to a row nor its key in the cache.
    `reply` is what the dialect needs to encode the answer. No other code reads it, and the outputs do not depend on it.
    `came_s` is when the call may have arrived, on the monotonic clock; infinite if that is not known.
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
"""The trace of a call that is recorded. All packages but the gateway pass it on without looking into it."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """A request that was checked against the model's signature, without the names of its inputs.

    `inputs` are in the signature's order, each with `rows` rows along axis 0 if the model is batched. `shape_key` is
    equal for queries whose rows may be stacked. `outputs` names the wanted outputs, at least one, in the wanted order.
    After `deadline_s`, on the monotonic clock, the answer is of no use. `trace` is set if the call is traced. The rest
    is as in `InferenceRequest`.
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
    `compute_s` the engine's run in it. `cache_s` is the time of the cache: digests, lookups, storing, and waiting for
    another request that computed the same rows. `batch_rows` is the number of rows in the largest batch that had rows
    of this answer. All but `cache_s` are zero if no model had to run.
    """

    queue_s: float = 0.0
    batch_s: float = 0.0
    compute_s: float = 0.0
    cache_s: float = 0.0
    batch_rows: int = 0


class Recall(Protocol):
    """The entry of the cache that an answer was taken from. It takes `size_bytes` of memory while it is held."""

    @property
    def size_bytes(self) -> int: ...

    def again(self) -> bool:
        """Whether the same query would be answered from this same entry now. If so, that is counted as a hit."""
        ...


class InferenceResponse(msgspec.Struct, frozen=True):
    """The answer to one `InferenceRequest`: the wanted outputs, in the wanted order.

    `late` is true if the answer came after its deadline, which is the model's objective or the caller's timeout.
    `cached` is `None` if the cache was not asked, and `recall` is `None` unless the answer was taken from a single
    entry of the cache. `parts` has the outputs of the request's `parts`; the timings are then those of the slowest.
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
