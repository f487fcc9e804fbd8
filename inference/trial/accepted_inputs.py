"""Finds out which inputs a model takes: sizes, ranges of integers, values. Most models take the first ones tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed
from sluice.inference.trial.random_inputs import (
    AcceptedInputs,
    Fill,
    RandomRows,
    Range,
    Sizes,
    filled,
    shapes_of,
)
from sluice.inference.types import FLOATS, Arrays, Datatype, TensorSpec

OPEN_SIZES = (3, 1, 8, 32, 64, 224)
"""Sizes for the axes of any size, in the order in which they are tried. At size 1, a model that mixes rows by a wrong
reshape or transposition would not show it; detectors of any height and width refuse small pictures."""

CHANNELS = (3, 1)
"""Sizes for axis 1 if the same size for all axes is refused: pictures have channels before height and width."""

MOST_ROW_ELEMENTS = 1 << 22
"""The most elements in one row of an input; sizes that make it larger are not tried."""

MOST_INTEGER = 1 << 20
"""The largest integer that is tried. No usual vocabulary is larger."""

GROWTH = 4
"""While the largest integer is searched, each step is so many times the last one."""

SLOWER = 4.0
SLOW_RUN_S = 0.002
"""An integer that makes a run take more than `SLOWER` times as long, and more than `SLOW_RUN_S`, is taken for an amount
of work, such as a number of steps."""

TRIES = 2
"""A run with an integer counts as slow if so many runs in a row are."""

LARGER = 16
LARGE_BYTES = 64 << 10
"""So is one that makes the answer more than `LARGER` times as large, and larger than `LARGE_BYTES`."""

FIND_S = 1.0
"""How long to search for any input that the model takes."""

PROBE_S = 0.4
"""How long to search for the range of integers of one input."""

NEARLY = 0.125
"""The part of the range that may be left uncertain when that time is over."""

_INTEGERS = frozenset(Datatype) - {*FLOATS, Datatype.BOOL, Datatype.BYTES}


class InputsRefused(msgspec.Struct, frozen=True):
    """The model took none of the inputs that were tried. `because` has the engine's words for the first of them."""

    because: str


class Answered(msgspec.Struct, frozen=True):
    """Inputs that a model takes, a `request` that `RandomRows` made of them, and the model's answer to it."""

    taken: AcceptedInputs
    request: Arrays
    answer: Arrays


def find_taken(
    backend: Backend, sample: Arrays | None, *, stacked: bool, clock: Callable[[], float]
) -> Answered | InputsRefused:
    """The first sizes and values that the model takes as one row.

    If there is a valid `sample`, its sizes are tried with random values. If those are refused, or if rows are not
    `stacked` anyway, the sample itself is used.
    """
    until_s = clock() + FIND_S
    refusal: str | None = None
    for taken in _candidates(backend.inputs, sample) if sample is None or stacked else ():
        found = _answered(backend, taken)
        if isinstance(found, Answered):
            return found
        refusal = refusal or found.because
        if clock() > until_s:
            break
    if sample is not None:
        return _answered(backend, _given(sample))
    return InputsRefused(refusal or "it has no inputs")


def takes(backend: Backend, arrays: Arrays) -> bool:
    """Whether the model runs with these inputs."""
    try:
        backend.run(arrays, _names(backend))
    except ModelFailed:
        return False
    return True


def other_sizes(backend: Backend, taken: AcceptedInputs) -> tuple[AcceptedInputs, ...]:
    """The same inputs in the other sizes of `OPEN_SIZES`, as far as they are small enough and the model takes them."""
    specs = backend.inputs
    shapes = [shapes_of(specs, sizes) for sizes in _sizes(specs, (None,))]
    others = [msgspec.structs.replace(taken, shapes=each, sample=None) for each in shapes if each != taken.shapes]
    return tuple([other for other in others if takes(backend, filled(np.random.default_rng(0), specs, other, 1))])


def smallest(backend: Backend, found: Answered) -> Answered:
    """The same inputs with size 1 for the axes of any size, if the model takes that. Measurements use them."""
    least = msgspec.structs.replace(found.taken, shapes=shapes_of(backend.inputs, Sizes(1)))
    if least.shapes == found.taken.shapes or least.sample is not None:
        return found
    smaller = _answered(backend, least)
    return smaller if isinstance(smaller, Answered) else found


def with_ranges(
    backend: Backend, found: Answered, sample: Arrays | None, clock: Callable[[], float]
) -> tuple[AcceptedInputs, str | None]:
    """What the model takes, with the range of integers of each input, and why the ranges are not known, or `None`.

    A range is searched while the other inputs are as in the request. Ids are looked up in a table: the model takes
    those that the table has, and refuses the next one. The search ends at `MOST_INTEGER`, and at integers that make the
    model slower or its answer larger, such as a number of steps. If ranges cannot be searched, those of the sample
    count; only without a sample they are not known.
    """
    taken = found.taken
    places = [place for place, spec in enumerate(backend.inputs) if spec.datatype in _INTEGERS]
    if not places or taken.sample is not None:
        return taken, None
    if not backend.checks_integers:
        sought, unsought = None, "integers are not sought on a GPU, where the engine need not refuse any"
    else:
        sought, unsought = _sought(backend, found, places, clock)
    if sought is not None:
        return msgspec.structs.replace(taken, ranges=sought), None
    if sample is None:
        return taken, unsought
    given = list(taken.ranges)
    for place in places:
        given[place] = Range(min(0, int(sample[place].min())), int(sample[place].max()))
    return msgspec.structs.replace(taken, ranges=tuple(given)), None


def _sought(
    backend: Backend, found: Answered, places: Sequence[int], clock: Callable[[], float]
) -> tuple[tuple[Range, ...] | None, str]:
    """The range of each input, or `None`, and why it is `None`."""
    began_s = clock()
    if not takes(backend, found.request):
        return None, "the model took a row at first, and refused the same one afterwards"
    run_s = clock() - began_s
    bounds = _Bounds(max(SLOW_RUN_S, SLOWER * run_s), max(LARGE_BYTES, LARGER * _bytes(found.answer)))
    ranges = list(found.taken.ranges)
    for place in places:
        probe = _Probe(backend, found.request, place, clock, bounds)
        ranges[place] = probe.range()
        if not probe.complete:
            name = backend.inputs[place].name
            return None, f"there was no time to find which integers input {name!r} takes"
    return tuple(ranges), ""


class _Bounds(msgspec.Struct, frozen=True):
    """A run that takes longer, or whose answer is larger, counts as refused."""

    run_s: float
    answer_bytes: int


class _Probe:
    """Searches the range of one input, by runs of one row in which all its elements are the same integer.

    `complete` is false if more than the part `NEARLY` of the range was uncertain when the time was over.
    """

    def __init__(
        self, backend: Backend, ground: Arrays, place: int, clock: Callable[[], float], bounds: _Bounds
    ) -> None:
        self.complete = True
        self._backend = backend
        self._ground = ground
        self._place = place
        self._clock = clock
        self._until_s = clock() + PROBE_S
        self._bounds = bounds

    def range(self) -> Range:
        """The range. It begins at 0 unless negative integers are taken, too."""
        limits = np.iinfo(self._ground[self._place].dtype)
        most = self._most(min(MOST_INTEGER, int(limits.max)))
        lowest = max(-most, int(limits.min))
        return Range(lowest if lowest < 0 and self._accepts(lowest) else 0, most)

    def _most(self, bound: int) -> int:
        """The largest accepted value up to a bound, assuming that all smaller ones from 0 are accepted, too."""
        good, bad = 0, 1
        while good < bound and self._accepts(bad):
            good, bad = bad, min(bound, bad * GROWTH)
        while good < bound and bad - good > 1:
            if self._clock() > self._until_s:
                self.complete = bad - good <= NEARLY * bad
                break
            middle = (good + bad) // 2
            good, bad = (middle, bad) if self._accepts(middle) else (good, middle)
        return good

    def _accepts(self, value: int) -> bool:
        if self._clock() > self._until_s:
            return False
        ground, place = self._ground, self._place
        arrays = (*ground[:place], np.full_like(ground[place], value), *ground[place + 1 :])
        try:
            # A slow run is repeated: the machine may have been busy.
            return any(self._is_cheap(arrays) for _ in range(TRIES))
        except ModelFailed:
            return False

    def _is_cheap(self, arrays: Arrays) -> bool:
        """Whether the answer is within the bounds. Raises `ModelFailed`."""
        began_s = self._clock()
        answer = self._backend.run(arrays, _names(self._backend))
        return self._clock() - began_s <= self._bounds.run_s and _bytes(answer) <= self._bounds.answer_bytes


def _candidates(specs: Sequence[TensorSpec], sample: Arrays | None) -> Iterator[AcceptedInputs]:
    ranges = _ranges(specs)
    if sample is not None:
        shapes = [tuple([(1, *array.shape[1:]) for array in sample])]
    else:
        shapes = [shapes_of(specs, sizes) for sizes in _sizes(specs, (None, *CHANNELS))]
    for each in dict.fromkeys(shapes):
        for fill in Fill:
            yield AcceptedInputs(each, ranges, fill)


def _sizes(specs: Sequence[TensorSpec], channels: Sequence[int | None]) -> Iterator[Sizes]:
    open_axes = any(None in spec.shape[1:] for spec in specs)
    for each in channels:
        for size in OPEN_SIZES if open_axes else OPEN_SIZES[:1]:
            sizes = Sizes(size, each)
            if size == 1 or not open_axes or _elements(specs, sizes) <= MOST_ROW_ELEMENTS:
                yield sizes


def _elements(specs: Sequence[TensorSpec], sizes: Sizes) -> int:
    return max([math.prod(shape) for shape in shapes_of(specs, sizes)])


def _ranges(specs: Sequence[TensorSpec]) -> tuple[Range, ...]:
    return (Range(),) * len(specs)


def _bytes(arrays: Arrays) -> int:
    return sum([array.nbytes for array in arrays])


def _names(backend: Backend) -> list[str]:
    return [spec.name for spec in backend.outputs]


def _answered(backend: Backend, taken: AcceptedInputs) -> Answered | InputsRefused:
    request = RandomRows(backend.inputs, taken).request()
    try:
        return Answered(taken, request, backend.run(request, _names(backend)))
    except ModelFailed as error:
        return InputsRefused(str(error))


def _given(sample: Arrays) -> AcceptedInputs:
    return AcceptedInputs(tuple([array.shape for array in sample]), (Range(),) * len(sample), Fill.PLAIN, sample)
