"""What the examples of Triton's Python client do, with the client as it is published.

There are those that run, and those that cannot and are told why. `docs/dialects.md` lists both; `DONE` and `REFUSED`
hold it to that.
"""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

from tests.integration.server import PATIENCE_S, SluiceProcess, serving, with_grpc
from tests.triton_models import place_all

DONE: set[str] = set()
REFUSED: set[str] = set()

DIALECTS = Path(__file__).parents[2] / "docs" / "dialects.md"
FIRST = np.arange(16, dtype=np.int32).reshape(1, 16)
SECOND = np.full((1, 16), -1, np.int32)


def done(*names: str) -> Callable[[Any], Any]:
    """These examples do what the test does."""
    DONE.update(names)
    return lambda test: test


def refused(*names: str) -> Callable[[Any], Any]:
    """These examples end where the test shows it."""
    REFUSED.update(names)
    return lambda test: test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    root = place_all(tmp_path_factory.mktemp("triton"))
    env = {"SLUICE_SERVER_MODEL_CONTROL": "true", "PATH": ""}
    with serving(root, *with_grpc(), env=env) as started:
        yield started


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(protocol: str) -> Any:
    """The client's module for a protocol."""
    return triton_http if protocol == "http" else triton_grpc


@pytest.fixture
def client(server: SluiceProcess, kind: Any) -> Iterator[Any]:
    port = server.port if kind is triton_http else server.grpc_port
    options = {"network_timeout": PATIENCE_S} if kind is triton_http else {}
    with kind.InferenceServerClient(f"127.0.0.1:{port}", **options) as made:
        yield made


@pytest.fixture
def stub(server: SluiceProcess) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def inputs(kind: Any, **options: Any) -> list[Any]:
    made = [kind.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for each, array in zip(made, (FIRST, SECOND), strict=True):
        each.set_data_from_numpy(array, **options)
    return made


def assert_sums(result: Any) -> None:
    assert result.as_numpy("OUTPUT0").tolist() == (FIRST + SECOND).tolist()
    assert result.as_numpy("OUTPUT1").tolist() == (FIRST - SECOND).tolist()


@done("simple_http_infer_client", "simple_grpc_infer_client")
def test_sum_and_difference_and_their_statistics(client: Any, kind: Any) -> None:
    outputs = [kind.InferRequestedOutput("OUTPUT0"), kind.InferRequestedOutput("OUTPUT1")]
    assert_sums(client.infer("simple", inputs(kind), outputs=outputs, headers={"test": "1"}))
    assert_sums(client.infer("simple", inputs(kind)))
    statistics = client.get_inference_statistics("simple")
    assert len(statistics["model_stats"] if kind is triton_http else statistics.model_stats) == 1


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_the_same_compressed(client: Any, kind: Any, algorithm: str) -> None:
    if kind is triton_http:
        both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        assert_sums(client.infer("simple", inputs(kind), query_params={"test_1": 1, "test_2": 2}, **both))
    else:
        assert_sums(client.infer("simple", inputs(kind), compression_algorithm=algorithm))


@done("simple_http_async_infer_client")
def test_many_at_once_over_http(server: SluiceProcess) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        asked = [client.async_infer("simple", inputs(triton_http, binary_data=True)) for _ in range(8)]
        for each in asked:
            assert_sums(each.get_result())


@done("simple_grpc_async_infer_client")
def test_many_at_once_over_grpc(server: SluiceProcess) -> None:
    heard: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        for _ in range(8):
            client.async_infer("simple", inputs(triton_grpc), lambda result, error: heard.put((result, error)))
        for _ in range(8):
            result, error = heard.get(timeout=PATIENCE_S)
            assert error is None
            assert_sums(result)


@done("simple_http_aio_infer_client", "simple_grpc_aio_infer_client")
async def test_asyncio(server: SluiceProcess, protocol: str) -> None:
    if protocol == "http":
        client, kind = triton_http_aio.InferenceServerClient(f"127.0.0.1:{server.port}"), triton_http_aio
    else:
        client, kind = triton_grpc_aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}"), triton_grpc_aio
    async with client:
        assert_sums(await client.infer("simple", inputs(kind)))
        with pytest.raises(InferenceServerException) as told:
            await client.infer("wrong_model_name", inputs(kind))
        assert told.value.message().startswith("Request for unknown model: 'wrong_model_name' is not found")


@done("simple_http_string_infer_client", "simple_grpc_string_infer_client")
def test_texts(client: Any, kind: Any, protocol: str) -> None:
    made = [kind.InferInput(name, [1, 16], "BYTES") for name in ("INPUT0", "INPUT1")]
    for each, array in zip(made, (FIRST, SECOND), strict=True):
        texts = np.array([str(number).encode() for number in array.ravel()], np.object_)
        each.set_data_from_numpy(texts.reshape(1, 16))
    answer = client.infer("simple_string", made)
    assert [int(text) for text in answer.as_numpy("OUTPUT0").ravel()] == (FIRST + SECOND).ravel().tolist()
    assert [int(text) for text in answer.as_numpy("OUTPUT1").ravel()] == (FIRST - SECOND).ravel().tolist()

    for text in (b"he\0llo", b"\0\1\2\3", "grüße".encode(), b""):
        texts = np.array([text] * 16, np.object_).reshape(1, 16)
        for options in [{"binary_data": True}, {"binary_data": False}] if protocol == "http" else [{}]:
            same = kind.InferInput("INPUT0", [1, 16], "BYTES")
            same.set_data_from_numpy(texts, **options)
            outputs = [kind.InferRequestedOutput("OUTPUT0", **options)]
            heard = client.infer("simple_identity", [same], outputs=outputs).as_numpy("OUTPUT0")
            assert [each if isinstance(each, bytes) else each.encode() for each in heard.ravel()] == [text] * 16


@done("simple_grpc_keepalive_client", "simple_grpc_custom_args_client")
@pytest.mark.parametrize("how", ["defaults", "options", "arguments"])
def test_channels_with_options_of_their_own(server: SluiceProcess, how: str) -> None:
    options: dict[str, Any] = {}
    if how == "options":
        options["keepalive_options"] = triton_grpc.KeepAliveOptions(keepalive_timeout_ms=20_000)
    elif how == "arguments":
        options["channel_args"] = [
            ("grpc.max_send_message_length", 1 << 20),
            ("grpc.max_receive_message_length", 1 << 20),
            ("grpc.keepalive_time_ms", 2**31 - 1),
            ("grpc.http2.max_pings_without_data", 2),
            ("grpc.dns_enable_srv_queries", 1),
        ]
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}", **options) as client:
        assert_sums(client.infer("simple", inputs(triton_grpc)))


@done("memory_growth_test")
def test_a_new_client_for_each_call(server: SluiceProcess, kind: Any) -> None:
    port = server.port if kind is triton_http else server.grpc_port
    for _ in range(5):
        with kind.InferenceServerClient(f"127.0.0.1:{port}") as client:
            [first, _] = inputs(kind)
            answer = client.infer("custom_identity_int32", [first], outputs=[kind.InferRequestedOutput("OUTPUT0")])
            assert answer.as_numpy("OUTPUT0").dtype == np.int32
            assert answer.as_numpy("OUTPUT0").tolist() == FIRST.tolist()


@done("grpc_client")
def test_the_bare_service(stub: Any) -> None:
    name = "densenet_onnx"
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name=name)).ready
    assert stub.ServerMetadata(service_pb2.ServerMetadataRequest()).name == "sluice"
    assert list(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name)).inputs[0].shape) == [3, 224, 224]
    assert stub.ModelConfig(service_pb2.ModelConfigRequest(name=name)).config.max_batch_size == 0
    request = service_pb2.ModelInferRequest(model_name=name, id="my request id")
    request.inputs.add(name="data_0", datatype="FP32", shape=[3, 224, 224])
    request.outputs.add(name="fc6_1")
    request.raw_input_contents.append(b"a" * 602112)
    response = stub.ModelInfer(request)
    means = np.frombuffer(response.raw_output_contents[0], np.float32)
    np.testing.assert_allclose(means, np.frombuffer(b"aaaa", np.float32)[0], rtol=1e-4)
    assert response.id == "my request id"


def typed(name: str, datatype: str) -> Any:
    request = service_pb2.ModelInferRequest(model_name=name)
    for input_, array in (("INPUT0", FIRST), ("INPUT1", SECOND)):
        made = request.inputs.add(name=input_, datatype=datatype, shape=[1, 16])
        if datatype == "BYTES":
            made.contents.bytes_contents.extend([str(number).encode() for number in array.ravel()])
        else:
            made.contents.int_contents.extend(array.ravel().tolist())
    for output in ("OUTPUT0", "OUTPUT1"):
        request.outputs.add(name=output)
    return request


@done("grpc_explicit_int_content_client", "grpc_explicit_int8_content_client", "grpc_explicit_byte_content_client")
@pytest.mark.parametrize(
    ("name", "datatype"), [("simple", "INT32"), ("simple_int8", "INT8"), ("simple_string", "BYTES")]
)
def test_typed_contents(stub: Any, name: str, datatype: str) -> None:
    response = stub.ModelInfer(typed(name, datatype))
    for raw, expected in zip(response.raw_output_contents, (FIRST + SECOND, FIRST - SECOND), strict=True):
        if datatype == "BYTES":
            assert [int(each) for each in deserialize_bytes_tensor(raw)] == expected.ravel().tolist()
        else:
            assert np.frombuffer(raw, datatype.lower()).tolist() == expected.ravel().tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "both contents",
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'",
        ),
        (
            "no number",
            "failed to get model version from specified version string 'wrong_specification'",
        ),
        ("no version", "Request for unknown model: 'simple' version 99 is not found"),
        ("no model", "Request for unknown model: 'wrong_model_name' is not found"),
    ],
)
def test_what_is_wrong_in_triton_s_words(stub: Any, wrong: str, said: str) -> None:
    request = typed("simple", "INT32")
    match wrong:
        case "both contents":
            request.raw_input_contents.append(FIRST[:, :8].tobytes())
        case "no number":
            request.model_version = "wrong_specification"
        case "no version":
            request.model_version = "99"
        case _:
            request.model_name = "wrong_model_name"
    with pytest.raises(grpc.RpcError) as told:
        stub.ModelInfer(request)
    assert said in str(told.value)


@pytest.mark.parametrize("ask", ["infer", "metadata", "config", "statistics", "unload"])
def test_a_model_that_there_is_not_in_triton_s_words(client: Any, kind: Any, ask: str) -> None:
    name = "wrong_model_name"
    calls: dict[str, Callable[[], object]] = {
        "infer": lambda: client.infer(name, inputs(kind)),
        "metadata": lambda: client.get_model_metadata(name),
        "config": lambda: client.get_model_config(name),
        "statistics": lambda: client.get_inference_statistics(name),
        "unload": lambda: client.unload_model(name),
    }
    with pytest.raises(InferenceServerException) as told:
        calls[ask]()
    assert f"Request for unknown model: '{name}' is not found" in told.value.message()
    assert told.value.status() in ("404", "StatusCode.NOT_FOUND")
    assert not client.is_model_ready(name)


@done("image_client", "grpc_image_client")
@pytest.mark.parametrize("model", ["inception", "inception_nhwc"])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_that_the_client_prepares(client: Any, kind: Any, model: str, count: int) -> None:
    """As `parse_model` and `preprocess` of the example do it: all they know is what metadata and config say."""
    if kind is triton_http:
        metadata, config = client.get_model_metadata(model), client.get_model_config(model)
        shape, name = metadata["inputs"][0]["shape"], metadata["inputs"][0]["name"]
        form, batched = config["input"][0]["format"], config["max_batch_size"] > 0
    else:
        metadata, config = client.get_model_metadata(model), client.get_model_config(model).config
        shape, name = list(metadata.inputs[0].shape), metadata.inputs[0].name
        kinds = triton_grpc.model_config_pb2.ModelInput.Format
        form, batched = kinds.Name(config.input[0].format), config.max_batch_size > 0
    assert (batched, len(shape)) == (True, 4)
    assert form == ("FORMAT_NHWC" if model == "inception_nhwc" else "FORMAT_NCHW")
    height, width = shape[1:3] if form == "FORMAT_NHWC" else shape[2:4]
    green = np.zeros((height, width, 3), np.float32)
    green[:, :, 1] = 200
    picture = green if form == "FORMAT_NHWC" else green.transpose(2, 0, 1)
    made = kind.InferInput(name, [count, *picture.shape], "FP32")
    made.set_data_from_numpy(np.stack([picture] * count))
    outputs = [kind.InferRequestedOutput("scores", class_count=2)]
    classes = client.infer(model, [made], outputs=outputs).as_numpy("scores")
    assert [row[0].decode().split(":")[1:] for row in classes] == [["2", "green"]] * count


# What cannot run, and what it is told.


@refused("simple_http_health_metadata", "simple_grpc_health_metadata")
def test_the_server_is_not_called_triton(client: Any, kind: Any) -> None:
    """All that these ask is answered as they expect; but they end because of the name."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    about, metadata = client.get_server_metadata(), client.get_model_metadata("simple")
    assert (about["name"] if kind is triton_http else about.name) == "sluice"
    assert (metadata["name"] if kind is triton_http else metadata.name) == "simple"


@refused("simple_http_model_control", "simple_grpc_model_control")
@pytest.mark.parametrize(
    "options",
    [
        {"config": '"parameters": {"config": {{"max_batch_size": "16"}}}'},
        {"config": '{"max_batch_size":"16"}'},
        {"config": "{}", "files": {"file:" + "A" * 256: b"a"}},
    ],
)
def test_a_model_is_loaded_as_it_lies_there(client: Any, options: dict[str, Any]) -> None:
    client.load_model("simple")
    assert client.is_model_ready("simple")
    with pytest.raises(InferenceServerException, match=r"failed to load 'simple'.*loading takes no parameters"):
        client.load_model("simple", **options)
    with pytest.raises(InferenceServerException, match="failed to load 'wrong_model_name'"):
        client.load_model("wrong_model_name")
    assert client.is_model_ready("simple")


@refused(
    *[f"simple_{protocol}_{kind}_client" for protocol in ("http", "grpc") for kind in ("shm", "shm_string", "cudashm")],
    "reuse_infer_objects_client",
)
@pytest.mark.parametrize("memory", ["system", "cuda"])
def test_shared_memory(client: Any, kind: Any, memory: str) -> None:
    register = {
        "system": lambda: client.register_system_shared_memory("input_data", "/input_simple", 128),
        "cuda": lambda: client.register_cuda_shared_memory("input_data", b"aGFuZGxl", 0, 128),
    }
    status = getattr(client, f"get_{memory}_shared_memory_status")
    unregister = getattr(client, f"unregister_{memory}_shared_memory")
    unregister()
    unregister("input_data")
    assert (status() if kind is triton_http else list(status().regions)) == []
    with pytest.raises(InferenceServerException, match=f"Unable to find {memory} shared memory region: 'input_data'"):
        status("input_data")
    with pytest.raises(
        InferenceServerException, match=f"the {memory} shared memory region 'input_data': shared memory"
    ):
        register[memory]()

    wanted = kind.InferRequestedOutput("OUTPUT0")
    wanted.set_shared_memory("output_data", 64)
    with pytest.raises(InferenceServerException, match="output 'OUTPUT0': shared memory is not served"):
        client.infer("simple", inputs(kind), outputs=[wanted])
    for shared in ([0], [1], [0, 1]):
        made = inputs(kind)
        for place in shared:
            made[place].set_shared_memory("input_data", 64, 64 * place)
        with pytest.raises(InferenceServerException, match=f"input 'INPUT{shared[0]}': shared memory is not served"):
            client.infer("simple", made)
    wanted.unset_shared_memory()
    assert client.infer("simple", inputs(kind), outputs=[wanted]).as_numpy("OUTPUT0") is not None


@refused(
    "simple_http_sequence_sync_infer_client",
    "simple_grpc_sequence_sync_infer_client",
    "simple_grpc_sequence_stream_infer_client",
    "simple_grpc_aio_sequence_stream_infer_client",
    "simple_grpc_custom_repeat",
    "ensemble_image_client",
)
@pytest.mark.parametrize("name", ["simple_sequence", "repeat_int32", "preprocess_inception_ensemble"])
def test_models_that_are_no_onnx_files(client: Any, kind: Any, name: str) -> None:
    """State between calls, many answers to one call, and ensembles are the server's doing and not the model's."""
    with pytest.raises(InferenceServerException, match=f"Request for unknown model: '{name}' is not found"):
        client.infer(name, inputs(kind), sequence_id=1, sequence_start=True)


def test_the_page_lists_every_example() -> None:
    [served, others] = re.findall(r"^\| (?:run as they are|do not) \|(.*)$", DIALECTS.read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", served)) == DONE
    assert {name for name in re.findall(r"`(\w+)`", others) if name.islower() and "_" in name} == REFUSED
    assert len(DONE | REFUSED) == 34, "so many examples has tritonclient 2.73"


# perf_analyzer, and curl.


def test_repeated_calls_raise_the_queue_s_count(client: Any, kind: Any) -> None:
    """perf_analyzer repeats one input, and looks for the version by a rise of `queue.count`."""

    def counted() -> dict[str, int]:
        if kind is triton_http:
            [version] = client.get_inference_statistics("simple_int8")["model_stats"]
            return {name: int(each["count"]) for name, each in version["inference_stats"].items()}
        [found] = client.get_inference_statistics("simple_int8").model_stats
        return {field.name: each.count for field, each in found.inference_stats.ListFields()} | {
            "execution_count": found.execution_count
        }

    def ask() -> None:
        made = [kind.InferInput(name, [1, 16], "INT8") for name in ("INPUT0", "INPUT1")]
        for each, array in zip(made, (FIRST, SECOND), strict=True):
            each.set_data_from_numpy(array.astype(np.int8))
        client.infer("simple_int8", made)

    ask()
    before = counted()
    for _ in range(5):
        ask()
    after = counted()
    risen = {name: after[name] - before.get(name, 0) for name in after}
    assert (risen["success"], risen["queue"], risen["cache_hit"]) == (5, 5, 5)
    assert risen["compute_infer"] == risen["compute_input"] == 0
    assert after["queue"] == after["success"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/repository/index", "{}", 200),
        ("/v2/repository/index", '{"ready": true}', 200),
        ("/v2/repository/index", '{"ready": "what"}', 400),
        ("/v2/repository/index", "ready=true", 400),
        ("/v2/repository/models/simple_int8/load", "{}", 200),
        ("/v2/repository/models/simple_int8/load", '{"parameters": {"config": "{}"}}', 400),
        ("/v2/repository/models/nobody/load", "{}", 404),
        ("/v2/repository/models/nobody/unload", "{}", 404),
        ("/v2/logging", "{}", 200),
        ("/v2/logging", '{"log_info": true}', 200),
        ("/v2/logging", '{"log_info": 7}', 400),
        ("/v2/trace/setting", "{}", 200),
        ("/v2/trace/setting", '{"trace_level": ["OFF"]}', 200),
        ("/v2/trace/setting", "[]", 400),
        ("/v2/systemsharedmemory/unregister", "{}", 200),
        ("/v2/cudasharedmemory/region/x/register", "{}", 400),
        ("/v2/models/custom_identity_int32/infer", "{}", 400),
    ],
)
def test_json_is_json_whatever_curl_calls_it(server: SluiceProcess, path: str, body: str, status: int) -> None:
    types = ["application/x-www-form-urlencoded", "application/json", "text/plain", "multipart/form-data", None]
    answers = [
        server.client.post(path, content=body, headers={} if kind is None else {"content-type": kind}) for kind in types
    ]
    assert [answer.status_code for answer in answers] == [status] * len(types), answers[0].text
    assert len({answer.text for answer in answers}) == 1
    assert status == 200 or list(answers[0].json()) == ["error"]


IN_FORCE = [
    {},
    {"trace_level": ["OFF"]},
    {"trace_level": "OFF", "trace_rate": 0},
    {"trace_rate": "0", "trace_count": -1, "log_frequency": "0", "trace_file": ""},
    {"trace_mode": "opentelemetry"},
    {"trace_level": None, "trace_rate": None},
]


@pytest.mark.parametrize("setting", IN_FORCE)
@pytest.mark.parametrize("model", [None, "simple"])
def test_a_trace_setting_that_is_in_force_is_accepted(server: SluiceProcess, setting: Any, model: str | None) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.update_trace_settings(model, setting) == client.get_trace_settings(model)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"trace_level": ["TIMESTAMPS"]}, "traces are fixed when the gateway starts.*trace_level is"),
        ({"trace_level": ["OFF", "OFF"]}, "trace_level is"),
        ({"trace_level": ["OFF"], "trace_rate": "1"}, "trace_rate is '0'"),
        ({"trace_file": "trace.json"}, "trace_file is ''"),
        ({"trace_mode": "triton"}, "trace_mode is 'opentelemetry'"),
        ({"colour": "red"}, "there is no trace setting 'colour'; there are trace_level"),
    ],
)
def test_any_other_is_refused(server: SluiceProcess, setting: Any, said: str) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for model in (None, "simple"):
            with pytest.raises(InferenceServerException, match=said):
                client.update_trace_settings(model, setting)
        with pytest.raises(InferenceServerException, match="unknown model"):
            client.update_trace_settings("wrong_model_name", {})


def test_a_log_setting_that_is_in_force_needs_no_leave(examples: SluiceProcess) -> None:
    for wish in ({}, {"log_info": True}, {"log_verbose_level": 0, "log_warning": True}, {"log_format": "default"}):
        assert examples.client.post("/v2/logging", json=wish).status_code == 200
    for wish in ({"log_info": False}, {"log_verbose_level": 1}):
        assert examples.client.post("/v2/logging", json=wish).status_code == 403
