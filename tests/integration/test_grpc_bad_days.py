"""gRPC on bad days: clients that go, time that runs out, messages that are none, and the end of the server."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.contents import FIELDS
from sluice.inference.types import Datatype
from tests import models
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving, with_grpc
from tests.integration.test_bad_days import write_model
from tests.integration.test_deadlines import ONE_WORKER, suspended
from tests.integration.test_tls import Authority, authority
from tests.waiting import eventually

__all__ = ["authority"]

SERVICE = "/inference.GRPCInferenceService/"
NO_STORE = (("cache-control", "no-store"),)
MENDABLE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
}


def row(value: float = 3, model: str = "linear") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[np.float32(value).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    return request


def value_of(body: bytes) -> float:
    (raw,) = pb.ModelInferResponse.FromString(body).raw_output_contents
    return float(np.frombuffer(raw, np.float32)[0])


def infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(f"{SERVICE}ModelInfer")


def channel_to(server: SluiceProcess) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")


def wait_until(server: SluiceProcess, series: str, at_least: float, **labels: str) -> None:
    eventually(lambda: server.metric(series, **labels) >= at_least, meanwhile=lambda: server.process.poll() is None)


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[SluiceProcess]:
    """A server whose only worker is suspended, with two batches in its hands: what comes now waits in the queue.

    Nobody may be there any more who waits when it goes on: nothing but the two batches and one at the end is run.
    """
    folder = write_model(tmp_path / "models", "linear", models.linear(), ONE_WORKER)
    with serving(folder, *with_grpc()) as server, channel_to(server) as channel:
        with suspended(server):
            first = [infer(channel).future(row(each).SerializeToString(), metadata=NO_STORE) for each in (1, 2)]
            wait_until(server, "sluice_batches_in_flight", 2, model="linear")
            yield server
        assert [value_of(each.result(PATIENCE_S)) for each in first] == [1, 3]
        assert value_of(infer(channel)(row().SerializeToString(), metadata=NO_STORE)) == 5
        assert server.metric("sluice_batches_total", model="linear") == 3


def test_who_cancels_leaves_the_queue(stuck: SluiceProcess) -> None:
    with channel_to(stuck) as channel:
        call = infer(channel).future(row().SerializeToString(), metadata=NO_STORE)
        wait_until(stuck, "sluice_queue_rows", 1, model="linear")
        call.cancel()
        wait_until(stuck, "sluice_requests_total", 1, dialect="grpc", outcome="cancelled")


def test_a_deadline_ends_the_wait(stuck: SluiceProcess) -> None:
    """Whether gateway or client notices first is chance: their clocks run out at the same time."""
    with channel_to(stuck) as channel, pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
        infer(channel)(row().SerializeToString(), timeout=0.5, metadata=NO_STORE)
    outcomes = ("timeout", "cancelled")
    eventually(
        lambda: any(stuck.metric("sluice_requests_total", dialect="grpc", outcome=each) for each in outcomes),
        meanwhile=lambda: stuck.process.poll() is None,
    )


def test_time_that_is_too_short_from_the_start_is_told(stuck: SluiceProcess) -> None:
    with channel_to(stuck) as channel, pytest.raises(grpc.RpcError, match="deadline") as ended:
        infer(channel)(
            row().SerializeToString(),
            timeout=PATIENCE_S,
            metadata=(*NO_STORE, ("x-request-timeout-ms", "0.001")),
        )
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stuck.metric("sluice_refusals_total", model="linear", reason="deadline") == 1


def test_a_stream_reads_no_more_than_it_may(stuck: SluiceProcess) -> None:
    """A stream that has 64 messages unanswered is not read on, however many more it sends."""
    with channel_to(stuck) as channel:
        method: Any = channel.stream_stream(f"{SERVICE}ModelStreamInfer")
        call = method(iter([row(each).SerializeToString() for each in range(1000)]), metadata=NO_STORE)
        wait_until(stuck, "sluice_queue_rows", 64, model="linear")
        assert stuck.metric("sluice_queue_rows", model="linear") == 64
        call.cancel()
        wait_until(stuck, "sluice_requests_total", 64, dialect="grpc", outcome="cancelled")


def test_what_a_full_queue_refuses_says_when_to_come_again(tmp_path: Path) -> None:
    config = f"{ONE_WORKER}max_queue_rows = 1\n"
    folder = write_model(tmp_path / "models", "linear", models.linear(), config)
    with serving(folder, *with_grpc()) as server, channel_to(server) as channel, suspended(server):
        waiting = []
        for batches in (1, 2):
            waiting.append(infer(channel).future(row(batches).SerializeToString(), metadata=NO_STORE))
            wait_until(server, "sluice_batches_in_flight", batches, model="linear")
        waiting.append(infer(channel).future(row(3).SerializeToString(), metadata=NO_STORE))
        wait_until(server, "sluice_queue_rows", 1, model="linear")
        with pytest.raises(grpc.RpcError) as refused:
            infer(channel)(row(4).SerializeToString(), metadata=NO_STORE, timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        ended: Any = refused.value
        assert {"retry-after", "grpc-retry-pushback-ms"} <= dict(ended.trailing_metadata()).keys()
        for each in waiting:
            each.cancel()


def test_a_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    settings_file = tmp_path / "sluice.toml"
    settings_file.write_text("[server]\nmax_body_bytes = '64KiB'\n")
    with serving(EXAMPLES, "--config", str(settings_file), *with_grpc()) as server, channel_to(server) as channel:
        request = row()
        request.id = "x" * 65536
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            infer(channel)(request.SerializeToString(), timeout=PATIENCE_S)
        assert value_of(infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)) == 5


parameters = st.builds(
    pb.InferParameter,
) | st.one_of(
    st.builds(lambda value: pb.InferParameter(bool_param=value), st.booleans()),
    st.builds(lambda value: pb.InferParameter(int64_param=value), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda value: pb.InferParameter(double_param=value), st.floats()),
    st.builds(lambda value: pb.InferParameter(string_param=value), st.text(max_size=5)),
)
names = st.sampled_from(["x", "y", "pixels", "timeout", "priority", "shared_memory_region", "classification", ""])
parameter_maps = st.dictionaries(names, parameters, max_size=2)


@st.composite
def inputs(draw: st.DrawFn) -> pb.ModelInferRequest.InferInputTensor:
    each = pb.ModelInferRequest.InferInputTensor(
        name=draw(names),
        datatype=draw(st.sampled_from([*Datatype, "FP8", ""])),
        shape=draw(st.lists(st.sampled_from([0, 1, 2, -1, 2**62]), max_size=3)),
        parameters=draw(parameter_maps),
    )
    if draw(st.booleans()):
        field = draw(st.sampled_from(sorted(set(FIELDS.values()))))
        each_value: Any = b"a" if field == "bytes_contents" else 1
        getattr(each.contents, field).extend([each_value] * draw(st.integers(0, 3)))
    return each


requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from(["linear", "linear", "digits", "", "nowhere"]),
    model_version=st.sampled_from(["", "1", "2", "latest"]),
    id=st.text(max_size=3),
    parameters=parameter_maps,
    inputs=st.lists(inputs(), max_size=2),
    outputs=st.lists(st.builds(pb.ModelInferRequest.InferRequestedOutputTensor, name=names), max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=9) | st.just(bytes(4)), max_size=2),
).map(lambda request: request.SerializeToString())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request, or a good one, with some of its bytes replaced, taken out or put in."""
    body = bytearray(draw(requests | st.just(row().SerializeToString())))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


METHODS = ["ModelInfer", "ModelMetadata", "ModelConfig", "ModelReady", "RepositoryModelLoad", "RepositoryIndex"]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=mutated(), method=st.sampled_from(["ModelInfer"] * 6 + METHODS))
def test_no_message_is_a_fault_of_the_server(examples: SluiceProcess, body: bytes, method: str) -> None:
    with channel_to(examples) as channel:
        ask: Any = channel.unary_unary(f"{SERVICE}{method}")
        call = ask.future(body, timeout=PATIENCE_S, metadata=NO_STORE)
        assert call.code() in {grpc.StatusCode.OK, *MENDABLE}, call


def test_the_end_under_load_leaves_no_call_unanswered(tmp_path: Path) -> None:
    """A call was answered, or never taken in: gRPC cancels those that wait to be when it stops."""
    log = tmp_path / "log"
    with serving(EXAMPLES, *with_grpc(), "--log-format", "json", log=log) as server:

        def ask() -> object:
            with channel_to(server) as channel:
                while True:
                    call = infer(channel).future(row().SerializeToString(), metadata=NO_STORE, timeout=PATIENCE_S)
                    if call.code() is not grpc.StatusCode.OK:
                        return call.code()
                    assert value_of(call.result()) == 5

        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(ask) for _ in range(8)]
            wait_until(server, "sluice_requests_total", 100, dialect="grpc", outcome="success")
            assert server.stop() == 0
            ends = {call.result(PATIENCE_S) for call in calls}
    assert ends <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    outcomes = re.findall(r'"outcome": "(\w+)"', log.read_text())
    assert set(outcomes) == {"success"}


def test_calls_in_flight_are_answered_after_the_signal_and_streams_end(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "linear", models.linear(), ONE_WORKER)
    with serving(folder, *with_grpc()) as server, channel_to(server) as channel:
        bodies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        asking: Any = channel.stream_stream(f"{SERVICE}ModelStreamInfer")
        stream = asking(iter(bodies.get, None), metadata=NO_STORE)
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watching = watch(b"")
        assert next(watching) == b"\x08\x01"
        with suspended(server):
            bodies.put(row(7).SerializeToString())
            wait_until(server, "sluice_batches_in_flight", 1, model="linear")
            call = infer(channel).future(row().SerializeToString(), metadata=NO_STORE)
            wait_until(server, "sluice_batches_in_flight", 2, model="linear")
            server.process.send_signal(signal.SIGTERM)
            assert list(watching) == [b"\x08\x02"]
        assert value_of(call.result(PATIENCE_S)) == 5
        answer = pb.ModelStreamInferResponse.FromString(next(stream))
        assert answer.infer_response.raw_output_contents[0] == np.float32(13).tobytes()
        with pytest.raises(grpc.RpcError, match="shutting down"):
            next(stream)
        bodies.put(None)
        assert server.process.wait(PATIENCE_S) == 0


def test_who_is_told_of_the_end_early_is_served_on(tmp_path: Path) -> None:
    settings_file = tmp_path / "sluice.toml"
    settings_file.write_text("[server]\nshutdown_delay_s = 60\n")
    with serving(EXAMPLES, "--config", str(settings_file), *with_grpc()) as server, channel_to(server) as channel:
        server.process.send_signal(signal.SIGTERM)
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        eventually(lambda: check(b"", timeout=PATIENCE_S) == b"\x08\x02", lambda: server.process.poll() is None)
        ready: Any = channel.unary_unary(f"{SERVICE}ServerReady")
        assert ready(b"", timeout=PATIENCE_S) == b""
        assert value_of(infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)) == 5
        assert server.stop() == 0


def test_tls_and_certificates_of_clients(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    known_certificate, known_key = authority.issue("client")
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(authority.file)]
    trusted = authority.file.read_bytes()
    known = grpc.ssl_channel_credentials(trusted, known_key.read_bytes(), known_certificate.read_bytes())
    stranger = grpc.ssl_channel_credentials(trusted)
    with serving(EXAMPLES, *files, *with_grpc(), verify=False) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        with grpc.secure_channel(target, known) as channel:
            assert value_of(infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)) == 5
        with grpc.secure_channel(target, stranger) as channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)
        with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    script = "import sys, sluice.gateway.cli, sluice.gateway.process.servers; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "sluice.gateway.prediction.data_plane" in shown
    assert not {"grpc", "h2", "google.protobuf", "sluice.gateway.grpc", "sluice.gateway.dialects.v2_grpc.codec"} & set(
        shown
    )
