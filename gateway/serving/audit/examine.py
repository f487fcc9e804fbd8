"""Compares the answer to a row in its batch with the answer to the row alone. Says what a difference means. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from sluice.gateway.serving.audit.sample import Sample, row_of
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.trial.comparison import OTHER_PLACE, OTHER_SIZE, SAME_PLACE, Strictness, first_change, scale_of
from sluice.inference.trial.row_independence import rows_lost
from sluice.inference.types import FLOATS, Array, Arrays, TensorSpec

GROSS = Strictness(dict.fromkeys(FLOATS, 5e-2), 1e-3, 0.01)
"""Differences larger than rounding makes in any precision, unless rounding decides between two classes or the like."""

JITTER = {np.dtype(np.float16): 2.0**-9, np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-20}
JITTERED = 2
"""How often the row is run with inputs that differ by hardly more than rounding."""

SUSPECTS, SUSPECT_PART, LOOKS = 3, 0.25, 16
"""So many different suspects are a verdict: rows that get another answer alone although their neighbours do not matter.
They have to be at least `SUSPECT_PART` of the rows that were audited since the first of them. The count begins anew
after `LOOKS` looks."""


class AuditFinding(msgspec.Struct, frozen=True):
    """What one look found, and in which output. `because` says it in plain words."""

    outcome: AuditOutcome
    output: str = ""
    because: str = ""


Examination: TypeAlias = Generator[Arrays, Arrays | None, AuditFinding]
"""Yields inputs that have to be run by themselves, and is sent the outputs, or `None` where the model refused them."""

_ALIKE = AuditFinding(AuditOutcome.ALIKE)


def examine(sample: Sample, specs: Sequence[TensorSpec]) -> Examination:
    """Compare the answer to the sample's row in its batch with the answer to the row alone.

    `specs` are the outputs that the batch had to give. One run is enough where the answers are alike. A difference
    counts once the row alone and the kept rows together have each been answered twice in the same way, while the row
    gets another answer at the same place of a batch of the same size that has only copies of itself. The engine
    computes exactly the same there, so rounding cannot be the reason. If the copies make no difference, the reason may
    be the size of the batch, the row's place in it, or the rounding that comes with them.
    """
    lost = rows_lost(specs, sample.answers, sample.rows)
    if lost is not None:
        again = yield sample.inputs
        if again is None or rows_lost(specs, again, sample.rows) is None:
            return AuditFinding(AuditOutcome.NOISE, because=f"{lost}, but not again")
        return AuditFinding(AuditOutcome.MIXED, _first_lost(specs, again, sample.rows), lost)
    alone = yield sample.row
    if alone is None:
        return AuditFinding(AuditOutcome.UNFINISHED, because="the model refused the row alone")
    seen, given = [sample.answers, alone], row_of(sample.answers, sample.place)
    changed = _changed(specs, alone, given, seen, OTHER_SIZE)
    if changed is None:
        return _ALIKE
    again = yield sample.row
    if again is None or _changed(specs, alone, again, seen, SAME_PLACE) is not None:
        return AuditFinding(AuditOutcome.NOISE, changed, "the model does not answer the same row in the same way twice")
    if sample.rows > 1:
        finding = yield from _beside_others(sample, specs, given, changed)
        if finding is not None:
            return finding
    return (yield from _by_itself(sample, specs, alone, given))


def _beside_others(
    sample: Sample, specs: Sequence[TensorSpec], given: Arrays, changed: str
) -> Generator[Arrays, Arrays | None, AuditFinding | None]:
    """Whether the other rows of the batch change the answer to the row; `None` where they do not."""
    copies = tuple([np.repeat(array, sample.rows, axis=0) for array in sample.row])
    fickle = AuditFinding(AuditOutcome.NOISE, changed, "the model does not answer the same batch in the same way twice")
    seen, mixed = [sample.answers], changed
    first: tuple[Arrays, Arrays] | None = None
    for _ in range(2):
        with_others, with_copies = (yield sample.inputs), (yield copies)
        if with_others is None or with_copies is None:
            return AuditFinding(AuditOutcome.UNFINISHED, changed, "the model refused rows that it had taken before")
        if rows_lost(specs, with_others, sample.rows) is not None:
            return fickle
        lost = rows_lost(specs, with_copies, sample.rows)
        if lost is not None:
            return AuditFinding(AuditOutcome.MIXED, _first_lost(specs, with_copies, sample.rows), lost)
        pair = (row_of(with_others, sample.place), row_of(with_copies, sample.place))
        before = first or (given if sample.whole else pair[0], pair[1])
        if any([_changed(specs, one, other, seen, SAME_PLACE) for one, other in zip(before, pair, strict=True)]):
            return fickle
        difference = _changed(specs, *pair, seen, OTHER_PLACE)
        if difference is None:
            return None
        first, mixed = pair, difference
    return AuditFinding(AuditOutcome.MIXED, mixed, f"a row of output {mixed!r} changes with the rows beside it")


def _by_itself(sample: Sample, specs: Sequence[TensorSpec], alone: Arrays, given: Arrays) -> Examination:
    """Whether a difference for which the other rows are not the reason is more than rounding."""
    seen = [sample.answers, alone]
    gross = _gross_change(specs, alone, given, seen)
    if gross is None:
        return AuditFinding(AuditOutcome.NOISE, because="rounding differs with the size of the batch")
    rng = np.random.default_rng(sample.content)
    for _ in range(JITTERED):
        jittered = tuple([_jittered(array, rng) for array in sample.row])
        near = yield jittered
        if near is not None and _changed(specs, alone, near, seen, OTHER_SIZE) is not None:
            return AuditFinding(AuditOutcome.NOISE, gross, "the row is on a knife's edge: rounding decides")
    return AuditFinding(
        AuditOutcome.SUSPECT,
        gross,
        f"a row of output {gross!r} changes with its place in the batch, or with the batch's size",
    )


def _gross_change(specs: Sequence[TensorSpec], one: Arrays, other: Arrays, seen: Sequence[Arrays]) -> str | None:
    """The first output that differs grossly.

    Only floating-point outputs are compared if there are any: classes and the like flip where rounding decides.
    """
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
    """The first output in which two answers to one row differ. `seen` are answers that show how large values are."""
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
    """Adds up suspect rows until they are a verdict. It forgets them after `LOOKS` looks."""

    def __init__(self) -> None:
        self._suspects: set[int] = set()
        self._alike = self._looks = 0

    @property
    def open(self) -> bool:
        """Whether any row is suspect at the moment."""
        return bool(self._suspects)

    def weigh(self, finding: AuditFinding, content: int) -> AuditFinding:
        """The finding, or the verdict that it completes. `content` distinguishes rows."""
        if finding.outcome is AuditOutcome.SUSPECT:
            self._suspects.add(content)
            suspects = len(self._suspects)
            if suspects >= SUSPECTS and suspects >= SUSPECT_PART * (suspects + self._alike):
                return msgspec.structs.replace(finding, outcome=AuditOutcome.MIXED)
        elif not self._suspects:
            return finding
        self._alike += finding.outcome is AuditOutcome.ALIKE
        self._looks += 1
        if self._looks >= LOOKS:
            self._suspects.clear()
            self._alike = self._looks = 0
        return finding
