"""The bundled models, served for the pages alone: other tests count the processes that they have started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import EXAMPLES
from tests.integration.server import SluiceProcess, serving


@pytest.fixture(scope="package")
def examples() -> Iterator[SluiceProcess]:
    """A gateway that ends with the last page."""
    with serving(EXAMPLES) as server:
        yield server
