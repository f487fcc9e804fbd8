"""TorchServe's inference API as its users call it, with curl and files, and SageMaker's beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sluice.inference.types import Array, Datatype
from tests import models
from tests.gateway.inputs.images.pictures import bomb, noise
from tests.integration.server import PATIENCE_S, SluiceProcess, serving
from tests.integration.test_bad_days import write_model

IMAGE = """
[input.x.image]
size = [16, 16]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""
CURL = shutil.which("curl")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    """The numbers of a picture come back as they went to the model."""
    folder = write_model(
        tmp_path_factory.mktemp("pictures"), "same", models.identity(Datatype.FP32, ("N", 3, 16, 16)), IMAGE
    )
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def kitten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "kitten.jpg"
    Image.fromarray(noise(60, 90)).save(file, quality=92)
    return file


def expected_of(file: Path) -> Array:
    pixels = np.asarray(Image.open(file).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    numbers: Array = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return numbers


def curl(*arguments: str) -> str:
    assert CURL is not None
    done = subprocess.run([CURL, "-sS", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return done.stdout


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_curl_sends_a_picture_as_torchserve_documents_it(pictures: SluiceProcess, kitten: Path) -> None:
    url = f"{pictures.url}/predictions/same"
    expected = expected_of(kitten)
    for arguments in (
        [url, "-T", str(kitten)],
        [f"{url}/1.0", "-T", str(kitten)],
        [url, "-F", f"data=@{kitten}"],
        [url, "--data-binary", f"@{kitten}"],
        [url, "-H", "Content-Type: application/json", "--data-binary", f"@{kitten}"],
        [url, "-H", "Content-Type: application/json", "-T", str(kitten)],
        ["-X", "POST", f"{pictures.url}/models/same/invoke", "-T", str(kitten)],
        [f"{pictures.url}/invocations", "-H", "Content-Type: image/jpeg", "--data-binary", f"@{kitten}"],
    ):
        numbers = np.array(json.loads(curl(*arguments)), np.float32)
        np.testing.assert_array_equal(numbers, expected)


def test_bombs_and_broken_pictures_are_refused(pictures: SluiceProcess, kitten: Path) -> None:
    put = pictures.client.put
    truncated = put("/predictions/same", content=kitten.read_bytes()[:-400])
    assert (truncated.status_code, truncated.json()["type"]) == (400, "BadRequestException")
    exploding = put("/predictions/same", content=bomb(50_000, 50_000))
    assert (exploding.status_code, exploding.json()["code"]) == (413, 413)
    assert "50000 x 50000 pixels" in exploding.json()["message"]
    sagemaker = pictures.client.post("/invocations", content=bomb(50_000, 50_000))
    assert (sagemaker.status_code, set(sagemaker.json())) == (413, {"error"})


@given(st.binary(max_size=400), st.integers(0, 3000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_picture_is_a_server_error(pictures: SluiceProcess, kitten: Path, noise_in: bytes, at: int) -> None:
    whole = kitten.read_bytes()
    for body in (noise_in, whole[:at] + noise_in + whole[at + len(noise_in) :]):
        for path in ("/predictions/same", "/invocations"):
            assert pictures.client.post(path, content=body).status_code in (200, 400, 413)


def test_a_declaration_that_does_not_suit_the_model_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", models.linear(), "[input.y.image]\n")
    with pytest.raises(AssertionError, match="did not become ready"), serving(folder, log=tmp_path / "log"):
        pass
    assert "input.y: the model has no such input; it has 'x'" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/predictions/nobody", "[1]", 404, "ModelNotFoundException"),
        ("/predictions/linear/9.0", "[1]", 404, "ModelVersionNotFoundException"),
        ("/predictions/linear/x", "[1]", 404, "ModelVersionNotFoundException"),
        ("/models/nobody/invoke", "[1]", 404, "ModelNotFoundException"),
        ("/predictions/linear", "{", 400, "BadRequestException"),
        ("/predictions/linear", "[1, 2]", 400, "BadRequestException"),
    ],
)
def test_errors_have_its_form(examples: SluiceProcess, path: str, body: str, status: int, kind: str) -> None:
    answer = examples.client.post(path, content=body)
    assert answer.status_code == status
    assert answer.json().keys() == {"code", "type", "message"}
    assert (answer.json()["code"], answer.json()["type"]) == (status, kind)


def test_a_wrong_method_and_a_wrong_encoding(examples: SluiceProcess) -> None:
    answer = examples.client.get("/predictions/linear")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")
    assert (answer.json()["code"], answer.json()["type"]) == (405, "MethodNotAllowedException")
    answer = examples.client.post("/predictions/linear", content=b"[1]", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.json()["code"]) == (415, 415)


def test_it_is_healthy(examples: SluiceProcess) -> None:
    assert (examples.client.get("/ping").status_code, examples.client.get("/ping").json()) == (
        200,
        {"status": "Healthy"},
    )


def test_invocations_need_one_model_or_a_default(examples: SluiceProcess, tmp_path: Path) -> None:
    answer = examples.client.post("/invocations", json={"instances": [[1]]})
    assert answer.status_code == 404
    assert "models.default" in answer.json()["error"]
    file = tmp_path / "sluice.toml"
    file.write_text('[models]\ndefault = "linear"\n')
    repository = Path(__file__).parents[2] / "examples" / "models"
    with serving(repository, "--config", str(file)) as server:
        assert server.client.post("/invocations", json={"instances": [[1]]}).json() == {"predictions": [[1.0]]}


def test_calls_that_come_again_are_told_apart_by_what_they_accept(tmp_path: Path) -> None:
    """The second of equal calls is answered from the cache, the third without being decoded."""
    with serving(models.place(models.linear(), tmp_path, "linear.onnx")) as server:
        for _ in range(4):
            for accept, body in (("text/csv", b"5.0\n"), ("application/json", b"[[5.0]]")):
                headers = {"Content-Type": "text/csv", "Accept": accept, "Cache-Control": ""}
                answer = httpx.post(f"{server.url}/invocations", content=b"3\n", headers=headers)
                assert answer.content == body
