"""gRPC with clients as they are published: Triton's, and those of gRPC's health checks and reflection."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

from sluice.gateway.dialects.v2_grpc.codec import WANTS_FINAL
from sluice.inference.types import Datatype
from tests import models
from tests.collector import collector
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving, with_grpc
from tests.integration.test_bad_days import write_model
from tests.integration.test_tracing import SPAN, TRACE, attributes, environment, wait_for
from tests.models import place

NO_STORE = {"cache-control": "no-store"}


def rows(*values: float) -> list[Any]:
    each = triton.InferInput("x", [len(values), 1], "FP32")
    each.set_data_from_numpy(np.array(values, np.float32).reshape(-1, 1))
    return [each]


@pytest.fixture
def client(examples: SluiceProcess) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{examples.grpc_port}") as client:
        yield client


@pytest.fixture
def channel(examples: SluiceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{examples.grpc_port}") as channel:
        yield channel


def test_a_client_of_triton_is_answered(client: Any) -> None:
    answer = client.infer("linear", rows(3, 4), request_id="mine", outputs=[triton.InferRequestedOutput("y")])
    assert answer.as_numpy("y").tolist() == [[5], [7]]
    response = answer.get_response()
    assert (response.model_name, response.model_version, response.id) == ("linear", "1", "mine")
    answer = client.infer("linear", rows(3), model_version="1", priority=1, timeout=60_000_000, client_timeout=60)
    assert answer.as_numpy("y").tolist() == [[5]]


def test_it_learns_of_server_and_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("nowhere")
    assert not client.is_model_ready("linear", "latest")
    assert client.get_server_metadata().name == "sluice"
    metadata = client.get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": ["-1", "64"]}]
    assert [each["name"] for each in metadata["outputs"]] == ["label", "probabilities"]
    config = client.get_model_config("digits").config
    assert (config.name, config.input[0].name, list(config.input[0].dims)) == ("digits", "pixels", [64])
    assert config.max_batch_size > 0


def test_errors_have_triton_s_status(client: Any) -> None:
    wrong = triton.InferInput("z", [1, 1], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 1), np.float32))
    faults: list[tuple[Callable[[], object], str, str]] = [
        (lambda: client.infer("nowhere", rows(3)), "NOT_FOUND", "nowhere"),
        (
            lambda: client.infer("linear", rows(3), model_version="9"),
            "NOT_FOUND",
            "unknown model: 'linear' version 9 is not found",
        ),
        (lambda: client.infer("linear", [wrong]), "INVALID_ARGUMENT", "'z'"),
        (lambda: client.infer("linear", rows(3), priority=77), "INVALID_ARGUMENT", "priority"),
        (lambda: client.get_model_config("nowhere"), "NOT_FOUND", "nowhere"),
        (lambda: client.get_model_metadata("linear", "x"), "NOT_FOUND", "whole numbers"),
        (lambda: client.load_model("linear"), "PERMISSION_DENIED", "server.model_control"),
        (lambda: client.unload_model("linear"), "PERMISSION_DENIED", "server.model_control"),
    ]
    for ask, status, words in faults:
        with pytest.raises(InferenceServerException) as refused:
            ask()
        assert refused.value.status() == f"StatusCode.{status}"
        assert words in refused.value.message()


async def test_an_asynchronous_client_is_answered_and_its_stream_too(examples: SluiceProcess) -> None:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{examples.grpc_port}") as client:
        assert await client.is_server_ready()
        assert (await client.infer("linear", rows(3))).as_numpy("y").tolist() == [[5]]

        async def asked() -> AsyncIterator[dict[str, Any]]:
            for number in range(300):
                model = "nowhere" if number == 7 else "linear"
                yield {"model_name": model, "inputs": rows(number), "request_id": str(number)}

        number = 0
        async for answer, error in client.stream_infer(asked()):
            if number == 7:
                assert "nowhere" in error.message()
            else:
                assert error is None
                assert answer.get_response().id == str(number)
                assert answer.as_numpy("y").tolist() == [[2 * number - 1]]
            number += 1
        assert number == 300


def test_a_stream_tells_of_the_last_answer_to_who_asks(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("linear", rows(3), enable_empty_final_response=True)
    result, error = answers.get(timeout=PATIENCE_S)
    client.stop_stream()
    assert error is None
    assert result.as_numpy("y").tolist() == [[5]]
    assert result.get_response().parameters["triton_final_response"].bool_param
    assert WANTS_FINAL not in result.get_response().parameters


def test_metadata_go_both_ways(examples: SluiceProcess, channel: grpc.Channel) -> None:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name="linear", raw_input_contents=[np.float32(0.8125).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    method: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    heard = []
    before = examples.metric("sluice_requests_total", dialect="grpc", outcome="success")
    for metadata in ((), (("x-request-id", "mine"),), (("cache-control", "no-store"),)):
        _, call = method.with_call(request.SerializeToString(), metadata=metadata, timeout=PATIENCE_S)
        heard.append(dict(call.trailing_metadata()))
    assert heard[0]["x-cache"] == "miss; rows=0/1"
    assert (heard[1]["x-cache"], heard[1]["x-request-id"]) == ("hit; rows=1/1", "mine")
    assert "x-cache" not in heard[2]
    assert all("total;dur=" in each["server-timing"] for each in heard)
    assert examples.metric("sluice_requests_total", dialect="grpc", outcome="success") == before + 3


def test_a_call_belongs_to_its_callers_trace() -> None:
    options = with_grpc()
    with collector() as kept, serving(EXAMPLES, *options, env=environment(kept.url)) as server:
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            client.infer("linear", rows(3), headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        wait_for(server, "exported", 1)
    (call,) = [span for span in kept.trace(TRACE) if span.name == "predict linear"]
    facts = attributes(call)
    assert (facts["rpc.grpc.status_code"], facts["sluice.dialect"], call.parent_span_id.hex()) == (0, "grpc", SPAN)
    assert "http.response.status_code" not in facts
    assert "error.type" not in facts


def test_strings_and_halves_travel(tmp_path: Path) -> None:
    place(models.strings(), tmp_path / "strings" / "1")
    place(models.identity(Datatype.FP16), tmp_path / "halves" / "1")
    values = {"strings": np.array([["Zürich".encode()], [b""]], np.object_), "halves": np.ones((2, 3), np.half)}
    with (
        serving(tmp_path, *with_grpc()) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client,
    ):
        for model, array in values.items():
            metadata = client.get_model_metadata(model)
            (spec,) = metadata.inputs
            shape = [size if size >= 0 else array.shape[axis] for axis, size in enumerate(spec.shape)]
            each = triton.InferInput(spec.name, shape, spec.datatype)
            each.set_data_from_numpy(np.resize(array, shape))
            answer = client.infer(model, [each]).as_numpy(metadata.outputs[0].name)
            assert answer.tolist() == np.resize(array, shape).tolist()


def test_statistics_are_those_of_the_page(examples: SluiceProcess, client: Any) -> None:
    client.infer("linear", rows(3), headers=NO_STORE)
    for asked, path in ((("linear",), "/linear"), (("linear", "1"), "/linear/versions/1"), ((), "")):
        said = client.get_inference_statistics(*asked, as_json=True)["model_stats"]
        page = examples.client.get(f"/v2/models{path}/stats").json()["model_stats"]
        assert [(each["name"], each["version"]) for each in said] == [(each["name"], each["version"]) for each in page]
        for ours, theirs in zip(said, page, strict=True):
            assert int(ours.get("inference_count", 0)) == theirs["inference_count"]
            success = ours.get("inference_stats", {}).get("success", {})
            assert int(success.get("count", 0)) == theirs["inference_stats"]["success"]["count"]
            assert int(success.get("ns", 0)) == theirs["inference_stats"]["success"]["ns"]


def test_classes_come_as_strings(client: Any) -> None:
    pixels = triton.InferInput("pixels", [1, 64], "FP32")
    pixels.set_data_from_numpy(np.zeros((1, 64), np.float32))
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    classes = client.infer("digits", [pixels], outputs=wanted).as_numpy("probabilities")
    assert classes.shape == (1, 3)
    assert all(text.count(b":") in {1, 2} for text in classes[0])


def test_models_come_and_go_where_the_operator_lets_them(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "linear", models.linear())
    settings = tmp_path / "sluice.toml"
    settings.write_text("[server]\nmodel_control = true\n")
    with (
        serving(folder, "--config", str(settings), *with_grpc()) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client,
    ):
        assert "model_repository" in client.get_server_metadata().extensions
        (only,) = client.get_model_repository_index().models
        assert (only.name, only.version, only.state) == ("linear", "1", "READY")
        client.unload_model("linear")
        assert not client.is_model_ready("linear")
        (only,) = client.get_model_repository_index().models
        assert (only.name, only.version, only.state) == ("linear", "", "UNAVAILABLE")
        client.load_model("linear")
        assert client.infer("linear", rows(3)).as_numpy("y").tolist() == [[5]]
        place(b"broken", folder / "broken" / "1")
        with pytest.raises(InferenceServerException, match="failed to load 'broken'"):
            client.load_model("broken")
        with pytest.raises(InferenceServerException, match="NOT_FOUND"):
            client.load_model("nowhere")
        with pytest.raises(InferenceServerException, match="takes no parameters"):
            client.load_model("linear", config="{}")


def test_health_is_told_for_gateway_and_models(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "inference.GRPCInferenceService", "linear"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health.Check(health_pb2.HealthCheckRequest(service="nowhere"), timeout=PATIENCE_S)
    watching = health.Watch(health_pb2.HealthCheckRequest(service="nowhere"), timeout=PATIENCE_S)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


def test_the_service_describes_itself(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert sorted(database.get_services()) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]
    service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
    assert service.methods_by_name["ModelInfer"].input_type.fields_by_name["raw_input_contents"].number == 7
