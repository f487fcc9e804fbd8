"""The metrics as text, made in small steps, so that a scrape of many models does not block the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING, deflated, preferred
from sluice.gateway.messages import Header, HttpResponse

SLICE_S = 0.001
"""How long one step keeps the event loop, plus the time of one piece."""

_END = b"# EOF\n"

Encode = Callable[[Collector], bytes]


@runtime_checkable
class Sliced(Protocol):
    """A collector of long families, which come in pieces of a bounded number of samples."""

    def slices(self) -> Iterator[Metric]:
        """The family in pieces, each with its name and text."""
        ...


class SlicedRegistry(CollectorRegistry):
    """A registry that can be read piece by piece. Collectors are never removed."""

    def __init__(self) -> None:
        super().__init__()
        self._in_order: list[Collector] = []

    def register(self, collector: Collector) -> None:
        """Add a collector. Raises `ValueError` if one of its names is taken."""
        super().register(collector)
        self._in_order.append(collector)

    def slices(self) -> Iterator[Metric]:
        """All families in the order of registration, long ones in pieces. Each is collected when it is asked for."""
        for collector in tuple(self._in_order):
            yield from collector.slices() if isinstance(collector, Sliced) else collector.collect()


class Exposition:
    """Makes the page of metrics, one at a time. Scrapes that overlap and accept the same share one page.

    The buckets and the sum of one histogram are read at one moment, but the page as a whole is not. To be used in the
    thread of the event loop alone.
    """

    def __init__(self, registry: SlicedRegistry) -> None:
        self._registry = registry
        self._making: dict[tuple[str, bytes | None], asyncio.Task[HttpResponse]] = {}
        self._turn = asyncio.Lock()

    async def page(self, accept: str, headers: Sequence[Header]) -> HttpResponse:
        """All metrics.

        In OpenMetrics, with exemplars, if `accept` asks for it as Prometheus does; or else in Prometheus' text format.
        Compressed if `headers` (`accept-encoding`) allow it.
        """
        encode, content_type = choose_encoder(accept)
        kind = content_type, preferred(headers)
        making = self._making.get(kind)
        if making is None:
            making = self._making[kind] = asyncio.create_task(self._make(encode, *kind))
            making.add_done_callback(lambda _: self._making.pop(kind))
        # The scrape that asked first may be cancelled, while others wait for the same page.
        return await asyncio.shield(making)

    async def _make(self, encode: Encode, content_type: str, encoding: bytes | None) -> HttpResponse:
        async with self._turn:
            pieces: list[bytes] = []
            until_s = time.perf_counter() + SLICE_S
            for piece in text_pieces(encode, self._registry.slices()):
                pieces.append(piece)
                if time.perf_counter() >= until_s:
                    await asyncio.sleep(0)
                    until_s = time.perf_counter() + SLICE_S
            page = HttpResponse(200, b"".join(pieces), ((b"content-type", content_type.encode()),))
            return page if encoding is None else await deflated(page, ((ACCEPT_ENCODING, encoding),))


def text_pieces(encode: Encode, families: Iterable[Metric]) -> Iterator[bytes]:
    """The text of families. Each may come in several pieces, one after another."""
    before, ended = None, b""
    for family in families:
        text = encode(_One(family))
        if text.endswith(_END):
            text, ended = text[: -len(_END)], _END
        if family.name == before:
            text = _without_head(text)
        before = family.name
        yield text
    yield ended


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text


class _One(Collector):
    """One family, for an encoder that takes a whole registry."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]
