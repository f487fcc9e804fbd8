"""Requests under suspicion: what is recorded of each content, and in which order they are tried. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import numpy as np

from sluice.batching.job import Batch, Job, batch_of
from sluice.batching.recovery import Record, verdict, weight_of
from sluice.inference.errors import WorkerKilled
from sluice.inference.types import Death

MOST_RECORDS = 256
"""The most contents on record; the one whose last death is the longest ago goes first."""

SUSPECT = 3
"""From deaths of this weight on, a content is suspected; with less it has most likely met an accident."""

KEEP_S = 30.0
"""How long a content stays on record after its last death. A condemned one is refused until then."""

MOST_WAITING = 64
"""The most requests that wait because of their content. Others run as any request does, or are tried at once."""

SAMPLES = 64
"""Numbers of each input that are looked at before all of it is digested."""

SPACING_S = 5.0
"""While other requests wait, the next suspect is tried this long after the last: each try may cost a worker."""

JobContent: TypeAlias = tuple[Hashable, bytes]


class DocketEntry(msgspec.Struct):
    """What is known of one content. `told` is what its callers are told once it is condemned."""

    record: Record
    last_s: float
    told: str | None = None


class Docket:
    """The suspects of one model version. Bounded in records and in requests that wait. `now_s` is monotonic time.

    A content is what makes two requests the same for the model: key, rows, and the bytes of the inputs. Copies share a
    record, and while one is suspected the others wait until it is known what came of it. A request is digested only
    where another is on record that has the same key, rows and size, and the same numbers in some places.

    Where a content is shown to be at fault, others of its shape (key and rows) may be so, too, until one passes: those
    that were in company with a death, and those that would travel with requests of another shape, are tried before it
    in the same way. So a poison in ever new forms does not take its neighbours along.
    """

    def __init__(self) -> None:
        self._like_suspects: deque[Batch] = deque()
        self._suspects: deque[Batch] = deque()
        self._entries: dict[JobContent, DocketEntry] = {}
        self._outlines: dict[Hashable, int] = {}
        self._shapes: dict[Hashable, float] = {}
        self._on_trial: Job | None = None
        self._tried_s = -SPACING_S

    def __bool__(self) -> bool:
        """Whether anything is on record."""
        return bool(self._entries or self._shapes)

    @property
    def waiting(self) -> list[Batch]:
        """Batches of one job, which are to be tried alone, in this order: those first that are only like a suspect."""
        return [*self._like_suspects, *self._suspects]

    @property
    def due_s(self) -> float:
        """When the next suspect is to be tried although others wait."""
        return self._tried_s + SPACING_S

    def died(self, batch: Batch, death: Death | None, sent_s: float, now_s: float) -> WorkerKilled | tuple[Batch, ...]:
        """A worker died while it ran this batch of one job, sent at `sent_s`: the verdict, or what is to go at once.

        That is nothing where the batch waits to be tried. A blow from outside that met copies at the same time is one.
        """
        self._forget_old(now_s)
        if weight_of(death) >= SUSPECT:
            self._shapes.pop(_shape(batch.jobs[0]), None)
            self._shapes[_shape(batch.jobs[0])] = now_s
        content = content_of(batch.jobs[0])
        entry = self._take(content) or DocketEntry(Record(), now_s)
        if sent_s >= entry.last_s or weight_of(death) >= SUSPECT or not entry.record.deaths:
            entry.record = entry.record.after(death)
        entry.last_s = now_s
        self._put(content, entry)
        if entry.record.condemned:
            entry.told = verdict(batch.deaths, entry.record, death)
            return WorkerKilled(entry.told)
        if entry.record.weight < SUSPECT:
            return (batch,)
        self._suspects.append(batch)
        self._tried_s = now_s
        return ()

    def cleared(self, job: Job) -> list[Batch]:
        """A job has run to its end: its content and shape are cleared. Returns the jobs that waited only for that."""
        content, shape = self._known_content(job), _shape(job)
        if content is None and shape not in self._shapes:
            return []
        if content is not None:
            self._take(content)
        self._shapes.pop(shape, None)
        free = [batch for batch in self.waiting if _shape(batch.jobs[0]) == shape and self._is_free(batch.jobs[0])]
        for line in (self._like_suspects, self._suspects):
            left = [batch for batch in line if batch not in free]
            line.clear()
            line.extend(left)
        return free

    def admitted(self, batch: Batch, now_s: float) -> Batch | None:
        """What is left of a batch that is about to run; `None` if that is nothing.

        Jobs of condemned content are ended. Those of suspected content wait to be tried alone, as do those of a
        suspected shape that were there when a worker died or have others beside them, up to `MOST_WAITING`.
        """
        self._forget_old(now_s)
        by_shape = batch.deaths > 0 or not all([_shape(job) in self._shapes for job in batch.jobs])
        left = [job for job in batch.jobs if not self._held_back(job, batch, now_s, by_shape=by_shape)]
        if len(left) == len(batch.jobs):
            return batch
        return batch_of(left, batch.deaths, batch.weight) if left else None

    def next(self, now_s: float) -> Batch:
        """The next suspect, which is tried now."""
        self._tried_s = now_s
        batch = (self._like_suspects or self._suspects).popleft()
        self._on_trial = batch.jobs[0]
        return batch

    def clear(self) -> None:
        """Nobody waits any more."""
        self._like_suspects.clear()
        self._suspects.clear()

    def _held_back(self, job: Job, batch: Batch, now_s: float, *, by_shape: bool) -> bool:
        content = self._known_content(job)
        entry = None if content is None else self._entries[content]
        if entry is not None and entry.told is not None:
            job.fail(WorkerKilled(f"the same input as {now_s - entry.last_s:.3g} s ago: {entry.told}"))
            return True
        if entry is not None and entry.record.weight >= SUSPECT:
            line = self._suspects
        elif by_shape and _shape(job) in self._shapes:
            line = self._like_suspects
        else:
            return False
        if job is self._on_trial or len(line) >= MOST_WAITING:
            return False
        line.append(batch_of([job], batch.deaths))
        return True

    def _is_free(self, job: Job) -> bool:
        """Whether nothing is held against one that waits."""
        content = self._known_content(job)
        return content is None or self._entries[content].record.weight < SUSPECT

    def _known_content(self, job: Job) -> JobContent | None:
        """The content of a job, if it is on record."""
        if _outline(job) not in self._outlines:
            return None
        content = content_of(job)
        return content if content in self._entries else None

    def _forget_old(self, now_s: float) -> None:
        """Drop records whose time is over. They lie in the order of their last deaths."""
        while self._entries:
            content, entry = next(iter(self._entries.items()))
            if now_s - entry.last_s <= KEEP_S and len(self._entries) < MOST_RECORDS:
                break
            self._take(content)
        while self._shapes:
            shape, last_s = next(iter(self._shapes.items()))
            if now_s - last_s <= KEEP_S and len(self._shapes) < MOST_RECORDS:
                return
            del self._shapes[shape]

    def _take(self, content: JobContent) -> DocketEntry | None:
        entry = self._entries.pop(content, None)
        if entry is not None:
            self._outlines[content[0]] -= 1
            if not self._outlines[content[0]]:
                del self._outlines[content[0]]
        return entry

    def _put(self, content: JobContent, entry: DocketEntry) -> None:
        self._entries[content] = entry
        self._outlines[content[0]] = self._outlines.get(content[0], 0) + 1


def content_of(job: Job) -> JobContent:
    """A digest that is equal for jobs that the model cannot tell apart."""
    digest = blake2b(digest_size=16)
    for array in job.inputs:
        if array.dtype.hasobject:
            for element in array.flat:
                digest.update(len(element).to_bytes(8, "little"))
                digest.update(element)
        elif array.size:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return _outline(job), digest.digest()


def _shape(job: Job) -> Hashable:
    return job.key, job.rows


def _outline(job: Job) -> Hashable:
    """Equal for equal contents, and for few others; made at once, however large the inputs are."""
    samples = [
        array.reshape(-1)[:: array.size // SAMPLES + 1].tobytes()
        for array in job.inputs
        if array.flags.c_contiguous and not array.dtype.hasobject
    ]
    return job.key, job.rows, job.size_bytes, *samples
