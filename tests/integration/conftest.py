from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.server import SluiceProcess, serving, with_grpc

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


@pytest.fixture(scope="session")
def examples() -> Iterator[SluiceProcess]:
    """The bundled models, served once for all tests that only read."""
    with serving(EXAMPLES, *with_grpc()) as server:
        yield server
