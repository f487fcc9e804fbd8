"""Whether a row that was answered in a batch was answered as it is alone, and what a difference means. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from sluice.gateway.serving.audit.sample import Sample, row_of
from sluice.gateway.telemetry.labels import LookOutcome
from sluice.inference.trial.comparison import OTHER_PLACE, OTHER_SIZE, SAME_PLACE, Strictness, first_change, scale_of
from sluice.inference.trial.row_independence import rows_lost
from sluice.inference.types import FLOATS, Array, Arrays, TensorSpec

GROSS = Strictness(dict.fromkeys(FLOATS, 5e-2), 1e-3, 0.01)
"""What rounding does not make of a row that is not on a knife's edge, whatever the engine computes in."""

JITTER = {np.dtype(np.float16): 2.0**-9, np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-20}
JITTERED = 2
"""The row is run so often with inputs that differ by hardly more than rounding."""

SUSPECTS, SUSPECT_PART, LOOKS = 3, 0.25, 16
"""Of rows whose neighbours do not matter, and that are answered otherwise alone, so many different ones are a verdict,
if they are this part of all that were looked at since the first; after so many looks one begins anew."""


class Finding(msgspec.Struct, frozen=True):
    """What came of one look, and in which output; `because` has plain words for it."""

    outcome: LookOutcome
    output: str = ""
    because: str = ""


Examination: TypeAlias = Generator[Arrays, Arrays | None, Finding]
"""Yields inputs to be run by themselves, in one part, is sent the outputs, or `None` where the model refused them."""

_ALIKE = Finding(LookOutcome.ALIKE)


def examine(sample: Sample, specs: Sequence[TensorSpec]) -> Examination:
    """Compares the sample's row with the row alone; `specs` are the outputs that the batch was to give.

    One run is enough where they are alike. A difference is believed once the row alone and the kept rows together are
    answered twice in the same way, and in a batch of the same size, at the same place, beside copies of itself alone,
    the row is answered in another. The engine does the very same there, so that rounding is no excuse. Where that makes
    no difference, the size of the batch or the row's place may be why, or the rounding that comes with them.
    """
    lost = rows_lost(specs, sample.answers, sample.rows)
    if lost is not None:
        again = yield sample.inputs
        if again is None or rows_lost(specs, again, sample.rows) is None:
            return Finding(LookOutcome.NOISE, because=f"{lost}, but not again")
        return Finding(LookOutcome.MIXED, _first_lost(specs, again, sample.rows), lost)
    alone = yield sample.row
    if alone is None:
        return Finding(LookOutcome.UNFINISHED, because="the model refused the row alone")
    seen, given = [sample.answers, alone], row_of(sample.answers, sample.place)
    changed = _changed(specs, alone, given, seen, OTHER_SIZE)
    if changed is None:
        return _ALIKE
    again = yield sample.row
    if again is None or _changed(specs, alone, again, seen, SAME_PLACE) is not None:
        return Finding(LookOutcome.NOISE, changed, "the model does not answer the same row in the same way twice")
    if sample.rows > 1:
        finding = yield from _beside_others(sample, specs, given, changed)
        if finding is not None:
            return finding
    return (yield from _by_itself(sample, specs, alone, given))


def _beside_others(
    sample: Sample, specs: Sequence[TensorSpec], given: Arrays, changed: str
) -> Generator[Arrays, Arrays | None, Finding | None]:
    """Whether the rows beside it change the row; `None` where they do not."""
    copies = tuple([np.repeat(array, sample.rows, axis=0) for array in sample.row])
    fickle = Finding(LookOutcome.NOISE, changed, "the model does not answer the same batch in the same way twice")
    seen, mixed = [sample.answers], changed
    first: tuple[Arrays, Arrays] | None = None
    for _ in range(2):
        with_others, with_copies = (yield sample.inputs), (yield copies)
        if with_others is None or with_copies is None:
            return Finding(LookOutcome.UNFINISHED, changed, "the model refused rows that it had taken before")
        if rows_lost(specs, with_others, sample.rows) is not None:
            return fickle
        lost = rows_lost(specs, with_copies, sample.rows)
        if lost is not None:
            return Finding(LookOutcome.MIXED, _first_lost(specs, with_copies, sample.rows), lost)
        pair = (row_of(with_others, sample.place), row_of(with_copies, sample.place))
        before = first or (given if sample.whole else pair[0], pair[1])
        if any([_changed(specs, one, other, seen, SAME_PLACE) for one, other in zip(before, pair, strict=True)]):
            return fickle
        difference = _changed(specs, *pair, seen, OTHER_PLACE)
        if difference is None:
            return None
        first, mixed = pair, difference
    return Finding(LookOutcome.MIXED, mixed, f"a row of output {mixed!r} changes with the rows beside it")


def _by_itself(sample: Sample, specs: Sequence[TensorSpec], alone: Arrays, given: Arrays) -> Examination:
    """Whether a difference that the neighbours do not make is more than rounding."""
    seen = [sample.answers, alone]
    gross = _gross_change(specs, alone, given, seen)
    if gross is None:
        return Finding(LookOutcome.NOISE, because="rounding differs with the size of the batch")
    rng = np.random.default_rng(sample.content)
    for _ in range(JITTERED):
        jittered = tuple([_jittered(array, rng) for array in sample.row])
        near = yield jittered
        if near is not None and _changed(specs, alone, near, seen, OTHER_SIZE) is not None:
            return Finding(LookOutcome.NOISE, gross, "the row is on a knife's edge: rounding decides")
    return Finding(
        LookOutcome.SUSPECT,
        gross,
        f"a row of output {gross!r} changes with its place in the batch, or with the batch's size",
    )


def _gross_change(specs: Sequence[TensorSpec], one: Arrays, other: Arrays, seen: Sequence[Arrays]) -> str | None:
    """The first output that differs grossly. Classes and the like flip where rounding decides, so numbers go first."""
    for place, spec in enumerate(specs):
        if one[place].shape != other[place].shape:
            return spec.name
    numbers = [place for place, spec in enumerate(specs) if spec.datatype in FLOATS] or list(range(len(specs)))
    return _changed(
        [specs[place] for place in numbers],
        _picked(one, numbers),
        _picked(other, numbers),
        [_picked(each, numbers) for each in seen],
        GROSS,
    )


def _changed(
    specs: Sequence[TensorSpec], one: Arrays, other: Arrays, seen: Sequence[Arrays], strictness: Strictness
) -> str | None:
    """The first output in which two answers to one row differ; `seen` are answers that tell how large values are."""
    scale = scale_of(specs, seen)
    change = first_change(specs, one, other, [scale] * one[0].shape[0], strictness)
    return None if change is None else change.output


def _picked(arrays: Arrays, places: Sequence[int]) -> Arrays:
    return tuple([arrays[place] for place in places])


def _jittered(array: Array, rng: np.random.Generator) -> Array:
    size = JITTER.get(array.dtype)
    if size is None:
        return array
    signs = rng.integers(0, 2, array.shape) * 2.0 - 1.0
    with np.errstate(all="ignore"):
        return np.asarray(array * (1.0 + size * signs)).astype(array.dtype)


def _first_lost(specs: Sequence[TensorSpec], arrays: Arrays, rows: int) -> str:
    return next(
        (spec.name for spec, array in zip(specs, arrays, strict=True) if array.shape[:1] != (rows,)), specs[0].name
    )


class Suspicions:
    """Adds up looks, none of which is a verdict by itself. Bounded: it forgets after `LOOKS` of them."""

    def __init__(self) -> None:
        self._suspects: set[int] = set()
        self._alike = self._looks = 0

    @property
    def open(self) -> bool:
        """Whether there is a suspicion to be cleared up."""
        return bool(self._suspects)

    def weigh(self, finding: Finding, content: int) -> Finding:
        """The finding, or the verdict that it completes. `content` tells one row from another."""
        if finding.outcome is LookOutcome.SUSPECT:
            self._suspects.add(content)
            suspects = len(self._suspects)
            if suspects >= SUSPECTS and suspects >= SUSPECT_PART * (suspects + self._alike):
                return msgspec.structs.replace(finding, outcome=LookOutcome.MIXED)
        elif not self._suspects:
            return finding
        self._alike += finding.outcome is LookOutcome.ALIKE
        self._looks += 1
        if self._looks >= LOOKS:
            self._suspects.clear()
            self._alike = self._looks = 0
        return finding
