"""The metrics of many models are made a piece at a time, and come out as if they were made at once."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable

import pytest
from prometheus_client.core import Metric

from sluice.gateway.telemetry.exposition import SLICE_S, text_pieces
from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.model_metrics import ModelGauges
from sluice.gateway.telemetry.tally import SLICED_SAMPLES
from tests.gateway.telemetry.scrape import scrape

MODELS = 60
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
OWN = ("sluice_",)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """Of as many models as a large repository has, each called in several ways."""
    metrics = Metrics("1.2.3", {"onnxruntime": "4.5.6"}, ["v2", "tfs", "torchserve", "openai", "grpc"])
    for number in range(MODELS):
        model = metrics.of_model(f"model-{number}", 1)
        model.watch(ModelGauges(one, one, one, one, one, objective_s=0.1))
        for dialect in ("v2", "grpc"):
            for outcome in (CallOutcome.SUCCESS, CallOutcome.INVALID):
                model.request_ended(dialect, outcome, 0.003 * number, "a" * 32)
    metrics.tick(0.0)
    return metrics


def one() -> float:
    return 1.0


def own(page: bytes) -> list[str]:
    """The lines that say the same each time: what the process is like at this moment is left out."""
    return [line for line in page.decode().splitlines() if line.removeprefix("# HELP ").startswith(OWN)]


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_the_page_is_the_one_that_would_be_made_at_once(metrics: Metrics, accept: str) -> None:
    page = asyncio.run(metrics.pages.page(accept, ()))
    whole, content_type = scrape(metrics, accept)
    assert own(page.body) == own(whole)
    assert page.body.endswith(b"# EOF\n") == whole.endswith(b"# EOF\n")
    assert page.headers == ((b"content-type", content_type.encode()),)


def test_no_piece_is_long(metrics: Metrics) -> None:
    for family in metrics.registry.slices():
        # Gauges read their models' state, a handful of numbers each.
        assert len(family.samples) <= max(SLICED_SAMPLES, MODELS), family.name


def test_the_event_loop_goes_on_in_between(metrics: Metrics) -> None:
    """As often as the time that the whole page takes asks for; a slow machine only makes it more often."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scrape() -> None:
        counting = asyncio.create_task(count())
        await metrics.pages.page("", ())
        counting.cancel()

    asyncio.run(scrape())
    assert turns > 20
    assert SLICE_S <= 0.001


def test_scrapes_that_overlap_share_one_page(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    slices = metrics.registry.slices

    def counted() -> Iterable[Metric]:
        nonlocal made
        made += 1
        return slices()

    monkeypatch.setattr(metrics.registry, "slices", counted)

    async def scrape() -> None:
        zipped = ((b"accept-encoding", b"gzip"),)
        plain = [asyncio.create_task(metrics.pages.page("", ())) for _ in range(5)]
        others = [asyncio.create_task(metrics.pages.page(OPEN_METRICS, zipped)) for _ in range(5)]
        await asyncio.sleep(0)
        plain[0].cancel()
        pages = await asyncio.gather(*plain[1:], *others)
        assert [page is pages[0] for page in pages[:4]] == [True] * 4
        assert dict(pages[-1].headers)[b"content-encoding"] == b"gzip"
        assert gzip.decompress(pages[-1].body).endswith(b"# EOF\n")
        await metrics.pages.page("", ())

    asyncio.run(scrape())
    assert made == 3


def test_a_family_in_pieces_has_one_head() -> None:
    family = [Metric("a", "Of a.", "gauge"), Metric("a", "Of a.", "gauge"), Metric("b", "Of b.", "gauge")]
    for value, piece in enumerate(family):
        piece.add_sample(piece.name, {}, value)
    texts = list(
        text_pieces(
            lambda one: b"".join(b"# HELP %b\n%b\n" % (m.name.encode(), m.name.encode()) for m in one.collect()), family
        )
    )
    assert texts == [b"# HELP a\na\n", b"a\n", b"# HELP b\nb\n", b""]
