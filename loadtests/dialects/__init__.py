"""The wire protocols that the load tests speak: one module each, found by its `DIALECT`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from loadtests.dialects.base import Dialect


def dialects() -> list[Dialect]:
    """One for each module beside this one but `base`, by name. Raises `AttributeError` for one without a `DIALECT`."""
    names = sorted(module.name for module in iter_modules(__path__) if module.name != "base")
    return [import_module(f"{__name__}.{name}").DIALECT for name in names]
