"""KServe's own clients, as they come from their authors, where they are installed: `make test-kserve`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.server import SluiceProcess

PYTHON = Path(__file__).parents[2] / ".venv-kserve" / "bin" / "python"
CALLS = Path(__file__).with_name("kserve_calls.py")


@pytest.mark.skipif(not PYTHON.exists(), reason="KServe's clients are not installed; make test-kserve does both")
def test_kserves_clients_are_answered_over_rest_and_grpc(examples: SluiceProcess) -> None:
    command = [str(PYTHON), str(CALLS), str(examples.port), str(examples.grpc_port)]
    called = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert called.returncode == 0, called.stderr
