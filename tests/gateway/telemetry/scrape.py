"""All metrics at once, for tests."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from sluice.gateway.telemetry.metrics import Metrics


def scrape(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """All metrics and their content type, made in one go. Servers make the same page in small steps."""
    encode, content_type = choose_encoder(accept)
    return encode(metrics.registry), content_type
