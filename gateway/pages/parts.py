"""The parts of a gateway that its pages use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.cache.cache import Cache
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.gateway.settings.sections import TracingSettings
from sluice.gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParts:
    """What the pages show and change."""

    catalogue: Catalogue
    readiness: Readiness
    control: RepositoryControl
    cache: Cache
    metrics: Metrics
    tracing: TracingSettings
    models_path: Path
    """The model repository, in which models that are registered have to lie."""
    version: str
    """The version of this software."""
    extensions: Sequence[str]
    """The extensions of the Open Inference Protocol that are served over REST."""
