"""The commands of `docs/migrating.md`, sent as they stand, give the answers that stand below them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sluice.inference.config.model_config import ModelConfig
from sluice.inference.config.model_toml import load_model_config
from tests.docs.curl_lines import CURL, DOCS, EXAMPLES, PAIRS, curl, section
from tests.integration.server import SluiceProcess, serving
from tests.integration.test_management_api import free_port

TENSORFLOW, TORCHSERVE, TRITON = "From TensorFlow Serving", "From TorchServe", "From Triton"

pytestmark = pytest.mark.skipif(CURL is None, reason="needs curl")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled models, with the `model.toml` that the page shows."""
    models = tmp_path_factory.mktemp("migrating") / "models"
    shutil.copytree(EXAMPLES, models)
    toml = (DOCS / "migrating.md").read_text().partition("# models/linear/model.toml\n")[2].partition("```")[0]
    (models / "linear" / "model.toml").write_text(toml)
    assert load_model_config(models / "linear" / "model.toml", ModelConfig()).version_labels == {"stable": 1}
    return models


def test_tensorflow_servings_users_are_taken_over_as_written(labelled: Path) -> None:
    pairs = PAIRS.findall(section("migrating.md", TENSORFLOW))
    assert len(pairs) == 8
    with serving(labelled) as server:
        for command, answer in pairs:
            assert curl(command, {"http://127.0.0.1:8501": server.url}) == answer, command


def test_tritons_users_are_taken_over_as_written(examples: SluiceProcess) -> None:
    pairs = PAIRS.findall(section("migrating.md", TRITON))
    assert len(pairs) == 4
    for command, answer in pairs:
        assert curl(command, {"http://127.0.0.1:8000": examples.url}) == answer, command


def test_torchserves_users_are_taken_over_as_written() -> None:
    pairs = PAIRS.findall(section("migrating.md", TORCHSERVE))
    assert len(pairs) == 6
    port = free_port()
    with serving(EXAMPLES, "--management-port", port) as server:
        for command, answer in pairs:
            here = {"http://127.0.0.1:8080": server.url, ":8081/": f":{port}/"}
            assert curl(command, here) == answer, command
