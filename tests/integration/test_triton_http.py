"""Triton's own client for HTTP, as it comes from its authors, against a real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from sluice.inference.types import Array, Datatype
from tests import models
from tests.integration.server import SluiceProcess, serving

LABELS = '[labels]\ny = ["zero", "one", "two"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    """`linear`, `texts` (BYTES, the same), `scores` (FP32[N,3], the same, with labels) and `two`."""
    root = tmp_path_factory.mktemp("models")
    for name, model in (
        ("linear", models.linear()),
        ("texts", models.strings()),
        ("scores", models.identity(Datatype.FP32)),
        ("two", models.two_in_two_out()),
    ):
        models.place(model, root / name / "1")
    (root / "scores" / "model.toml").write_text(LABELS)
    env = {"SLUICE_SERVER_MODEL_CONTROL": "true", "SLUICE_SERVER_COMPRESS_FROM_BYTES": "1KiB", "PATH": ""}
    with serving(root, env=env) as started:
        started.models = root  # type: ignore[attr-defined]
        yield started


@pytest.fixture
def client(server: SluiceProcess) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=60.0) as made:
        yield made


def tensor(name: str, array: Array, *, binary: bool = True, kind: Any = triton.InferInput) -> Any:
    datatype = "BYTES" if array.dtype == np.object_ else {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
    made = kind(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


X = np.array([[3], [10]], np.float32)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tensors_travel_as_bytes_or_as_json(client: Any, binary_in: bool, binary_out: bool | None) -> None:
    outputs = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer("linear", [tensor("x", X, binary=binary_in)], outputs=outputs, request_id="mine")
    assert result.as_numpy("y").tolist() == [[5.0], [19.0]]
    assert result.get_response()["id"] == "mine"
    assert ("data" in result.get_output("y")) == (binary_out is False)


@pytest.mark.parametrize("binary", [True, False])
def test_strings(client: Any, binary: bool) -> None:
    words = np.array([b"", "grüße".encode(), b"a b"], np.object_)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary)]
    result = client.infer("texts", [tensor("x", words, binary=binary)], outputs=outputs)
    assert [each if isinstance(each, bytes) else each.encode() for each in result.as_numpy("y")] == words.tolist()


def test_inputs_and_outputs_in_any_order(client: Any) -> None:
    a, b = np.ones((2, 4), np.float32), np.zeros((2, 2), np.int64)
    outputs = [triton.InferRequestedOutput(name) for name in ("a_doubled", "b_plus_one")]
    result = client.infer("two", [tensor("b", b), tensor("a", a, binary=False)], outputs=outputs)
    assert result.as_numpy("a_doubled").tolist() == (2 * a).tolist()
    assert result.as_numpy("b_plus_one").tolist() == (b + 1).tolist()


def test_classes(client: Any) -> None:
    scores = np.array([[0.25, 4, 1], [9, 8, 7]], np.float32)
    outputs = [triton.InferRequestedOutput("y", class_count=2)]
    result = client.infer("scores", [tensor("x", scores)], outputs=outputs).as_numpy("y")
    assert result.tolist() == [[b"4.000000:1:one", b"1.000000:2:two"], [b"9.000000:0:zero", b"8.000000:1:one"]]


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_both_ways(client: Any, packed: str, binary: bool) -> None:
    rows = np.arange(6000, dtype=np.float32).reshape(-1, 3) / 7
    result = client.infer(
        "scores",
        [tensor("x", rows, binary=binary)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), rows)


def test_many_at_once_with_priorities_and_timeouts(client: Any) -> None:
    asked = [client.async_infer("linear", [tensor("x", X)], priority=2, timeout=30_000_000) for _ in range(20)]
    assert all(each.get_result().as_numpy("y").tolist() == [[5.0], [19.0]] for each in asked)


def test_the_server_and_its_models_tell_about_themselves(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("nobody")
    about = client.get_server_metadata()
    assert {"binary_tensor_data", "classification", "statistics", "model_repository"} <= set(about["extensions"])
    assert client.get_model_metadata("scores")["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    config = client.get_model_config("scores")
    assert (config["name"], config["input"][0]["data_type"], config["input"][0]["dims"]) == ("scores", "TYPE_FP32", [3])


def test_statistics(client: Any) -> None:
    def successes() -> int:
        [version] = client.get_inference_statistics("linear")["model_stats"]
        return int(version["inference_stats"]["success"]["count"])

    before = successes()
    client.infer("linear", [tensor("x", X)])
    assert successes() == before + 1
    assert len(client.get_inference_statistics()["model_stats"]) >= 4


def test_the_repository_is_changed(client: Any, server: SluiceProcess) -> None:
    root: Path = server.models  # type: ignore[attr-defined]
    models.place(models.linear(), root / "late" / "1")
    by_name = {each["name"]: each["state"] for each in client.get_model_repository_index()}
    assert (by_name["late"], by_name["linear"]) == ("UNAVAILABLE", "READY")
    client.load_model("late")
    assert client.infer("late", [tensor("x", X)]).as_numpy("y").tolist() == [[5.0], [19.0]]
    client.unload_model("late")
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'late' is not found"):
        client.infer("late", [tensor("x", X)])
    with pytest.raises(InferenceServerException, match="has no model"):
        client.load_model("nobody")
    models.place(b"nonsense", root / "broken" / "1")
    with pytest.raises(InferenceServerException, match="failed to load 'broken'"):
        client.load_model("broken")


def test_what_is_logged_and_traced(client: Any) -> None:
    assert client.get_log_settings()["log_info"] is True
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.update_log_settings({"log_verbose_level": 0})["log_verbose_level"] == 0
    with pytest.raises(InferenceServerException, match="are fixed"):
        client.update_log_settings({"log_file": "/tmp/x"})
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    assert client.get_trace_settings("linear")["trace_mode"] == "opentelemetry"
    with pytest.raises(InferenceServerException, match="fixed when the gateway starts"):
        client.update_trace_settings(settings={"trace_rate": "1"})


def test_errors_say_what_is_wrong(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="expected"):
        client.infer("linear", [tensor("x", np.zeros((1, 5), np.float32))])
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.infer("nobody", [tensor("x", X)])


async def test_the_client_for_asyncio(server: SluiceProcess) -> None:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        inputs = [tensor("x", X)]
        results = await asyncio.gather(*[client.infer("linear", inputs) for _ in range(10)])
        assert all(each.as_numpy("y").tolist() == [[5.0], [19.0]] for each in results)
        assert await client.is_model_ready("linear")
        packed = await client.infer("linear", inputs, request_compression_algorithm="gzip")
        assert packed.as_numpy("y").tolist() == [[5.0], [19.0]]


def test_a_slash_at_the_end_changes_nothing(server: SluiceProcess) -> None:
    for path in ("/v2", "/v2/health/ready", "/v2/models/linear", "/v2/models/linear/ready", "/v2/models/stats"):
        assert server.client.get(path + "/").status_code == server.client.get(path).status_code == 200, path


def test_the_repository_is_closed_unless_it_is_opened(examples: SluiceProcess) -> None:
    post = examples.client.post
    for path in ("/v2/repository/index", "/v2/repository/models/linear/load", "/v2/repository/models/linear/unload"):
        answer = post(path)
        assert answer.status_code == 403
        assert "server.model_control" in answer.json()["error"]
    assert post("/v2/logging", json={"log_info": False}).status_code == 403
    assert "model_repository" not in examples.client.get("/v2").json()["extensions"]
    assert post("/v2/repository/index", json={"ready": "what"}).status_code == 400
