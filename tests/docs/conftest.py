"""The bundled models, served once for all pages."""

from __future__ import annotations

from tests.integration.conftest import examples

__all__ = ["examples"]
