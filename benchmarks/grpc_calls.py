"""*grpc*: unary calls over gRPC beside REST, on the smallest model, where the protocol weighs most."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.processes import NO_CACHE, Server, bare_grpc, free_port, sluice
from benchmarks.scenarios import Report, at_most, columns, median_of, v2_body
from benchmarks.wrk import Load, drive
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb

CONCURRENCY = (1, 16, 64)
CHANNELS = 4
"""Connections, at most, that the calls are spread over; a client of gRPC sends many calls over one."""


def grpc_unary(models: Path, rounds: int, duration_s: int) -> Report:
    """One row of 4 numbers per call. The generator of gRPC's calls is Python and shares the processor: CPU tells."""
    row = np.array([[1.0, 2.5, 3.25, 4.125]], np.float32)
    request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=row.shape)
    message, body, port = request.SerializeToString(), v2_body(row), free_port()
    loads: dict[tuple[str, int], list[Load]] = {}
    options = ("--grpc-port", str(port))
    with sluice(models / "tiny.onnx", *options, settings=NO_CACHE) as server, bare_grpc() as bare:
        for _ in range(rounds):
            for calls in CONCURRENCY:
                for name, load in (
                    ("gRPC", asyncio.run(_drive(server, port, message, calls, duration_s))),
                    ("bare grpc.aio", asyncio.run(_drive(bare, bare.port, message, calls, duration_s))),
                    ("REST", drive(server, "/v2/models/tiny/infer", body, calls, duration_s)),
                ):
                    loads.setdefault((name, calls), []).append(load)
    seen = {key: median_of(each) for key, each in loads.items()}
    over_bare = seen["gRPC", 64].cpu_s_per_1000 / seen["bare grpc.aio", 64].cpu_s_per_1000
    return Report(
        "grpc: one row of float32[4] per unary call, raw, beside a bare grpc.aio handler, and V2 JSON over REST",
        ["what", "calls at a time", "req/s", "p50 ms", "p99 ms", "CPU s / 1000"],
        [[name, calls, *columns(load)] for (name, calls), load in seen.items()],
        [at_most("server CPU per call at 64 at a time over bare grpc.aio", over_bare, 2.0)],
    )


async def _drive(server: Server, port: int, message: bytes, calls: int, duration_s: int) -> Load:
    """So many callers, each of which sends its next message when it has its answer. Raises if any call failed."""
    spent_s: list[float] = []
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_own(number)) for number in range(CHANNELS)]

    async def caller(number: int) -> None:
        method: Any = channels[number % CHANNELS].unary_unary("/inference.GRPCInferenceService/ModelInfer")
        while (sent_s := time.perf_counter()) < end_s:
            await method(message)
            spent_s.append(time.perf_counter() - sent_s)

    cpu_before_s, begun_s = server.cpu_s(), time.perf_counter()
    end_s = begun_s + duration_s
    await asyncio.gather(*[caller(number) for number in range(calls)])
    took_s, cpu_s = time.perf_counter() - begun_s, server.cpu_s() - cpu_before_s
    await asyncio.gather(*[channel.close() for channel in channels])
    hundredths = statistics.quantiles(spent_s, n=100)
    return Load(len(spent_s) / took_s, hundredths[49] * 1e3, hundredths[98] * 1e3, cpu_s / len(spent_s) * 1000)


def _own(number: int) -> list[tuple[str, int]]:
    """Options that keep a channel from sharing the connection of another to the same server."""
    return [("grpc.use_local_subchannel_pool", 1), ("sluice.channel", number)]
