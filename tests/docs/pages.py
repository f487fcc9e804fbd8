"""The pages of the documentation, wherever they lie in the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]

EVERY_PAGE = tuple(
    sorted(
        str(page.relative_to(ROOT))
        for page in ROOT.rglob("*.md")
        if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
    )
)

PAGES = tuple(page for page in EVERY_PAGE if page != "CHANGELOG.md")
"""Pages that speak of what there is now; a changelog may name what is gone."""
