"""`docs/settings.md` is what the settings' own fields say."""

from __future__ import annotations

from docs.settings_page import PAGE, SHARED, TABLES, page
from sluice.gateway.settings.load import Settings
from sluice.inference.config.faults import leaves
from sluice.inference.config.model_config import ModelConfig


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "make settings writes it anew"


def test_every_setting_is_on_it() -> None:
    written = page()
    for key, _ in leaves(Settings):
        assert f"| `{key}`" in written


def test_every_table_of_a_model_is_on_it() -> None:
    tables = {table.partition(".")[0] for table in TABLES} | set(SHARED) | {"labels", "version_labels"}
    assert tables == set(ModelConfig.model_fields)
