"""Requests under suspicion: what they are known for, by their content, and in which order they are tried. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import numpy as np

from batching.job import Batch, Job, batch_of
from batching.recovery import Record, verdict, weight_of
from inference.errors import WorkerKilled
from inference.types import Death

MOST_RECORDS = 256
"""Contents that are kept in mind; the one whose last death is the longest ago goes first."""

SUSPECT = 3
"""From deaths of this weight on, a content is suspected; with less it has most likely met an accident."""

KEEP_S = 30.0
"""For so long after its last death a content is kept in mind: a condemned one is refused, and then tried afresh."""

MOST_WAITING = 64
"""Requests that wait because of their content; more of them run as any request does, or are tried at once."""

SAMPLES = 64
"""Numbers of each input that are looked at before all of it is digested."""

SPACING_S = 1.0
"""While others wait, suspects are tried no more often than that: each may cost a worker, and all need the workers."""

Content: TypeAlias = tuple[Hashable, bytes]


class Entry(msgspec.Struct):
    """What is known of one content. `told` is what its callers are told once it is condemned."""

    record: Record
    last_s: float
    told: str | None = None


class Docket:
    """The suspects of one model version. Bounded in records and in requests that wait. `now_s` is monotonic time.

    A content is what makes two requests the same for the model: key, rows, and the bytes of the inputs. Copies share a
    record, and while one is suspected the others wait until it is known what came of it. A request is digested only
    where another is on record that has the same key, rows and size, and the same numbers in some places.
    """

    def __init__(self) -> None:
        self.waiting: deque[Batch] = deque()
        """Batches of one job, which are to be tried alone."""
        self._entries: dict[Content, Entry] = {}
        self._outlines: dict[Hashable, int] = {}
        self._tried_s = -SPACING_S

    def __bool__(self) -> bool:
        """Whether anything is on record."""
        return bool(self._entries)

    @property
    def due_s(self) -> float:
        """When the next suspect is to be tried although others wait."""
        return self._tried_s + SPACING_S

    def died(self, batch: Batch, death: Death | None, sent_s: float, now_s: float) -> WorkerKilled | tuple[Batch, ...]:
        """A worker died while it ran this batch of one job, sent at `sent_s`: the verdict, or what is to go at once.

        That is nothing where the batch waits to be tried. A blow from outside that met copies at the same time is one.
        """
        self._forget_old(now_s)
        content = content_of(batch.jobs[0])
        entry = self._take(content) or Entry(Record(), now_s)
        if sent_s >= entry.last_s or weight_of(death) >= SUSPECT or not entry.record.deaths:
            entry.record = entry.record.after(death)
        entry.last_s = now_s
        self._put(content, entry)
        if entry.record.condemned:
            entry.told = verdict(batch.deaths, entry.record, death)
            return WorkerKilled(entry.told)
        if entry.record.weight < SUSPECT or len(self.waiting) >= MOST_WAITING:
            return (batch,)
        self.waiting.append(batch)
        self._tried_s = now_s
        return ()

    def cleared(self, job: Job) -> list[Batch]:
        """A job has run to its end, so that its content is no suspect. The batches that waited only because it was."""
        content = self._known_content(job)
        if content is None or self._take(content) is None:
            return []
        free = [batch for batch in self.waiting if content_of(batch.jobs[0]) == content]
        self.waiting = deque([batch for batch in self.waiting if batch not in free])
        return free

    def admitted(self, batch: Batch, now_s: float) -> Batch | None:
        """What is left of a batch that is about to run; `None` if that is nothing.

        Jobs of condemned content are ended. Those of suspected content wait to be tried alone, unless they are alone.
        """
        self._forget_old(now_s)
        left = [job for job in batch.jobs if not self._held_back(job, batch, now_s)]
        if len(left) == len(batch.jobs):
            return batch
        return batch_of(left, batch.deaths, batch.weight) if left else None

    def next(self, now_s: float) -> Batch:
        """The next suspect, which is tried now."""
        self._tried_s = now_s
        return self.waiting.popleft()

    def jobs(self) -> Iterator[Job]:
        """Those that wait."""
        return (batch.jobs[0] for batch in self.waiting)

    def _held_back(self, job: Job, batch: Batch, now_s: float) -> bool:
        content = self._known_content(job)
        if content is None:
            return False
        entry = self._entries[content]
        if entry.told is not None:
            job.fail(WorkerKilled(f"the same input as {now_s - entry.last_s:.3g} s ago: {entry.told}"))
            return True
        alone, suspected = len(batch.jobs) == 1, entry.record.weight >= SUSPECT
        if alone or not suspected or len(self.waiting) >= MOST_WAITING:
            return False
        self.waiting.append(batch_of([job], batch.deaths))
        return True

    def _known_content(self, job: Job) -> Content | None:
        """The content of a job, if it is on record."""
        if _outline(job) not in self._outlines:
            return None
        content = content_of(job)
        return content if content in self._entries else None

    def _forget_old(self, now_s: float) -> None:
        """Let go of records whose time is over. They lie in the order of their last deaths."""
        while self._entries:
            content, entry = next(iter(self._entries.items()))
            if now_s - entry.last_s <= KEEP_S and len(self._entries) < MOST_RECORDS:
                return
            self._take(content)

    def _take(self, content: Content) -> Entry | None:
        entry = self._entries.pop(content, None)
        if entry is not None:
            self._outlines[content[0]] -= 1
            if not self._outlines[content[0]]:
                del self._outlines[content[0]]
        return entry

    def _put(self, content: Content, entry: Entry) -> None:
        self._entries[content] = entry
        self._outlines[content[0]] = self._outlines.get(content[0], 0) + 1


def content_of(job: Job) -> Content:
    """Equal for jobs that the model cannot tell apart."""
    digest = blake2b(digest_size=16)
    for array in job.inputs:
        if array.dtype.hasobject:
            for element in array.flat:
                digest.update(len(element).to_bytes(8, "little"))
                digest.update(element)
        elif array.size:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return _outline(job), digest.digest()


def _outline(job: Job) -> Hashable:
    """Equal for equal contents, and for few others; made at once, however large the inputs are."""
    samples = [
        array.reshape(-1)[:: array.size // SAMPLES + 1].tobytes()
        for array in job.inputs
        if array.flags.c_contiguous and not array.dtype.hasobject
    ]
    return job.key, job.rows, job.size_bytes, *samples
