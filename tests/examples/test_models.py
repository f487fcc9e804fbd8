"""The bundled models, as whoever tries Sluice sees them first: nothing about them is told as wrong."""

from __future__ import annotations

from pathlib import Path

from sluice.inference.repository.scan import look

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


def test_nothing_of_the_bundled_models_is_passed_over() -> None:
    found = look(EXAMPLES)
    assert (found.passed_over, found.broken) == ((), ())
    assert [(each.name, each.sample) for each in found.versions] == [
        (name, EXAMPLES / name / "sample.json") for name in ("digits", "linear")
    ]
