"""The ways in: for every dialect, how a client of it asks for predictions. One module each, found by its `WAYS`.

A way is a plain function `(server, model, inputs) -> outputs` over numpy arrays, so that the same inputs can be sent
along all of them. `None` instead of outputs: this model cannot be asked in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeAlias

from sluice.inference.types import Array
from tests.integration.server import SluiceProcess

Arrays: TypeAlias = Mapping[str, Array]
Way: TypeAlias = Callable[[SluiceProcess, str, Arrays], Arrays | None]


def ways() -> dict[str, Way]:
    """Every way, by its name."""
    found: dict[str, Way] = {}
    for module in sorted(module.name for module in iter_modules(__path__)):
        found |= import_module(f"{__name__}.{module}").WAYS
    return found
