"""The memory tier: entries in this process, bounded in bytes. Pure: it has no clock, and `now_s` is an argument."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable

from sluice.cache.entry import CacheEntry
from sluice.cache.report import Owner

SMALL_SHARE = 0.1
"""The part of the memory for new entries, as in the paper."""

MOST_VISITS = 3
PROVEN_VISITS = 2
"""An entry that was asked for so often while it was new moves to the main queue."""

LARGEST_SHARE = 0.25
"""One entry takes at most this part of the memory: a single answer must not push out everything else."""

REPRIEVES = 64
"""The most entries spared in one search for room; after that any entry goes, so that no `put` takes long."""


class MemoryTier:
    """A cache of at most `max_bytes`, all entries together, that keeps what is asked for again: S3-FIFO.

    New entries stand in a small queue. What is not asked for until it reaches the end leaves, and only its key is
    remembered; the rest, and what comes back, moves to the main queue, where each visit spares an entry one round. So a
    stream of rows that nobody repeats passes through a tenth of the memory, and does not push out what others use
    (Yang, Zhang, Qiu, Yue and Vigfusson, "FIFO queues are all you need for cache eviction", SOSP 2023;
    docs/decisions/0010-memory-is-s3-fifo.md).

    A lookup moves nothing, and takes a fraction of a microsecond. Entries that have expired are never returned; they
    leave when their key is put again or their turn has come. `on_evicted` is called with each entry that has to make
    room before it has expired. Not safe for threads.
    """

    def __init__(self, max_bytes: int, on_evicted: Callable[[Owner], None]) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        """What the entries take together."""
        self._on_evicted = on_evicted
        self._table: dict[bytes, CacheEntry] = {}
        self._small: deque[bytes] = deque()
        self._small_bytes = 0
        self._main: deque[bytes] = deque()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._held: defaultdict[Owner, list[int]] = defaultdict(lambda: [0, 0])

    @property
    def entries(self) -> int:
        """How many there are, with those that have expired and not left yet."""
        return len(self._table)

    @property
    def ghosts(self) -> int:
        """Keys that are remembered of entries that have gone: no more than there are entries."""
        return len(self._ghosts)

    def held(self, owner: Owner) -> tuple[int, int]:
        """The owner's entries, and the bytes that they take."""
        entries, held_bytes = self._held.get(owner, (0, 0))
        return entries, held_bytes

    def get(self, key: bytes, now_s: float) -> CacheEntry | None:
        """The entry of a key, if there is one that has not expired."""
        entry = self._table.get(key)
        if entry is None or entry.expires_s <= now_s:
            return None
        if entry.visits < MOST_VISITS:
            entry.visits += 1
        return entry

    def put(self, key: bytes, entry: CacheEntry, now_s: float) -> bool:
        """Keep an entry, in place of the key's last one; false if it is too large to be kept."""
        if entry.size_bytes > self.max_bytes * LARGEST_SHARE:
            return False
        old = self._table.get(key)
        if old is not None:
            # The key keeps its place, so that each is in one queue, once.
            entry.visits, entry.kept = old.visits, old.kept
            self._count(old, -1)
        elif key in self._ghosts:
            del self._ghosts[key]
            entry.kept = True
            self._main.append(key)
        else:
            self._small.append(key)
        self._table[key] = entry
        self._count(entry, 1)
        self._make_room(now_s)
        return True

    def remove(self, owner: Owner) -> int:
        """Delete all entries of an owner. Returns how many there were."""
        before = self._table
        # A new table, since the old one would stay as large as it ever was.
        self._table = {key: entry for key, entry in before.items() if entry.owner != owner}
        for entry in before.values():
            if entry.owner == owner:
                self._count(entry, -1)
        self._held.pop(owner, None)
        self._small = deque([key for key in self._small if key in self._table])
        self._main = deque([key for key in self._main if key in self._table])
        ghosts = list(self._ghosts)
        self._ghosts = OrderedDict.fromkeys(ghosts[max(0, len(ghosts) - len(self._table)) :])
        return len(before) - len(self._table)

    def _make_room(self, now_s: float) -> None:
        """Let entries go until the bound is kept, and move up those on the way that are to stay."""
        spared = 0
        while self.size_bytes > self.max_bytes:
            small = bool(self._small) and (self._small_bytes > self.max_bytes * SMALL_SHARE or not self._main)
            key = (self._small if small else self._main).popleft()
            entry = self._table[key]
            needed = entry.visits >= (PROVEN_VISITS if small else 1) and entry.expires_s > now_s
            if needed and spared < REPRIEVES:
                spared += 1
                self._spare(key, entry)
            else:
                self._drop(key, entry, now_s)
                if small:
                    self._remember(key)

    def _spare(self, key: bytes, entry: CacheEntry) -> None:
        if entry.kept:
            entry.visits -= 1
        else:
            self._small_bytes -= entry.size_bytes
            entry.kept = True
            entry.visits = 0
        self._main.append(key)

    def _remember(self, key: bytes) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > len(self._table):
            self._ghosts.popitem(last=False)

    def _drop(self, key: bytes, entry: CacheEntry, now_s: float) -> None:
        del self._table[key]
        self._count(entry, -1)
        if entry.expires_s > now_s:
            self._on_evicted(entry.owner)

    def _count(self, entry: CacheEntry, by: int) -> None:
        size_bytes = by * entry.size_bytes
        self.size_bytes += size_bytes
        if not entry.kept:
            self._small_bytes += size_bytes
        held = self._held[entry.owner]
        held[0] += by
        held[1] += size_bytes
