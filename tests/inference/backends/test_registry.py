from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from sluice.inference.backends.base import UNKNOWN_VERSION
from sluice.inference.backends.onnx import engine
from sluice.inference.backends.onnx.engine import OnnxRuntime
from sluice.inference.backends.registry import ENGINES, engine_of, engine_versions, is_model_file

SLOW_TO_IMPORT = ("onnxruntime", "google.protobuf", "sluice.inference.backends.onnx.proof")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The distributions that are installed, with their versions."""
    versions: dict[str, str] = {}

    def version(distribution: str) -> str:
        if distribution not in versions:
            raise PackageNotFoundError(distribution)
        return versions[distribution]

    monkeypatch.setattr("importlib.metadata.version", version)
    engine._installed_version.cache_clear()
    yield versions
    engine._installed_version.cache_clear()


def test_a_file_belongs_to_an_engine_by_its_suffix() -> None:
    assert isinstance(engine_of(Path("models/m/1/model.onnx")), OnnxRuntime)
    assert is_model_file(Path("any.onnx"))
    assert not is_model_file(Path("any.onnx.bak"))


def test_a_file_that_is_no_engines_goes_to_the_first_which_refuses_it() -> None:
    assert engine_of(Path("README.md")) is ENGINES[0]


def test_names_of_engines_and_their_files_are_unique() -> None:
    assert len({each.name for each in ENGINES}) == len(ENGINES)
    assert len({Path(each.model_file).suffix for each in ENGINES}) == len(ENGINES)


@pytest.mark.parametrize("distribution", ["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"])
def test_the_version_is_that_of_whichever_distribution_is_installed(
    distribution: str, installed: dict[str, str]
) -> None:
    installed[distribution] = "1.2.3"
    assert engine_versions() == {"onnxruntime": "1.2.3"}


def test_without_an_engine_its_version_is_unknown(installed: dict[str, str]) -> None:
    assert engine_versions() == {"onnxruntime": UNKNOWN_VERSION}
    assert not installed


def test_asking_for_an_engine_does_not_import_it() -> None:
    code = (
        "import sys; from sluice.inference.backends.registry import engine_of, engine_versions; engine_versions(); "
        f"print([each for each in {SLOW_TO_IMPORT} if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_does_not_import_what_reads_metadata() -> None:
    """Each worker would carry megabytes of it, and only the gateway asks for the version."""
    script = "import sys, sluice.inference.worker.main; print('importlib.metadata' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "False\n"
