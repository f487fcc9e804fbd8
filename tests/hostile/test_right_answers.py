"""Every answer is right, whatever breaks meanwhile: each is held against what numpy says.

Workers and readers are killed and stopped, a model is replaced by another of the same name, callers leave and have
little time. `HOSTILE_SCALE=0.1` makes a short run.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import grpc
import httpx
import psutil
import pytest

from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from tests.hostile import questions
from tests.hostile.house import environment
from tests.hostile.questions import Arrays, Question, differs, message, question, read_message, written
from tests.hostile.tally import SCALE, SEED
from tests.integration.server import SluiceProcess, serving, with_grpc
from tests.redis_server import redis_server

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(3600)]

SECONDS, HTTP_CALLERS, STREAMS = 300, 8, 4
PATIENCE_S = 90.0
BUSY = (b"queue is full", b"elements of BYTES", b"times its length", b"overloaded", b"could not be answered in time")
"""What may be said to a caller who asks for much."""

UNARY, STREAM = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))


class Callers:
    """Ask until the time is over. `wrong` has every answer that is not what it should be; `odd`, refusals."""

    def __init__(self, server: SluiceProcess, folder: Path, seed: int, seconds: float) -> None:
        self.right = 0
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.odd: list[str] = []
        self._server, self._folder, self._seed = server, folder, seed
        self._until_s = time.monotonic() + seconds
        self._factors = [(0.0, 1.0)]
        self._replaced_s: list[float] = []

    @property
    def going(self) -> bool:
        return time.monotonic() < self._until_s

    async def all(self) -> None:
        breaker = threading.Thread(target=self._break, daemon=True)
        breaker.start()
        async with asyncio.TaskGroup() as group:
            for number in range(HTTP_CALLERS):
                group.create_task(self._ask(Random(f"{self._seed} http {number}")))
            for number in range(STREAMS):
                group.create_task(self._stream(Random(f"{self._seed} stream {number}")))
            group.create_task(self._replace(Random(f"{self._seed} replace")))
        breaker.join()

    def _look(self, asked: Question, began_s: float, where: str, found: Arrays) -> None:
        now_s = time.monotonic()
        ends = [*self._replaced_s, float("inf")]
        factors = [
            factor
            for place, (since_s, factor) in enumerate(self._factors)
            if since_s <= now_s and (ends[place] if place < len(ends) else now_s) >= began_s
        ]
        fault = differs(asked, found, factors)
        self.right += fault is None
        if fault is not None:
            self.wrong.append(f"{asked.model} {where}: {fault}")

    def _refused(self, asked: Question, where: str, said: bytes, *, hurried: bool) -> None:
        if not hurried and asked.model != "promised" and not any([each in said for each in BUSY]):
            self.odd.append(f"{asked.model} {where}, {asked.rows} rows: {said[:200]!r}")
        self.counts["refused"] += 1

    async def _ask(self, chance: Random) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, timeout=PATIENCE_S) as client:
            while self.going:
                asked = question(chance)
                call = written(chance, asked)
                hurried, leaves = chance.random() < 0.1, chance.random() < 0.06
                if hurried:
                    call.headers["X-Request-Timeout-Ms"] = str(chance.choice((1, 5, 20, 100)))
                began_s = time.monotonic()
                try:
                    async with asyncio.timeout(chance.choice((0.001, 0.01, 0.1)) if leaves else PATIENCE_S):
                        answer = await client.post(call.target, content=call.body, headers=call.headers)
                except TimeoutError:
                    if not leaves:
                        self.odd.append(f"{asked.model} {call.target}: no answer in {PATIENCE_S} s")
                    continue
                if answer.status_code == 200:
                    self._look(asked, began_s, call.target, call.read(answer.headers, answer.content)[1])
                else:
                    self._refused(asked, f"{call.target} {answer.status_code}", answer.content, hurried=hurried)

    async def _stream(self, chance: Random) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._server.grpc_port}", options=options) as channel:
            infer: Any = channel.unary_unary(
                UNARY, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
            )
            stream: Any = channel.stream_stream(
                STREAM, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
            )
            while self.going:
                packing = chance.choice((None, grpc.Compression.Gzip, grpc.Compression.Deflate))
                began_s = time.monotonic()
                asked = [question(chance) for _ in range(chance.choice((1, 3, 30)))]
                if len(asked) == 1:
                    told = message(chance, asked[0], "1")
                    try:
                        answer = await infer(told, timeout=PATIENCE_S, compression=packing)
                    except grpc.aio.AioRpcError as error:
                        self._refused(asked[0], f"grpc {error.code()}", (error.details() or "").encode(), hurried=False)
                    else:
                        self._look(asked[0], began_s, "grpc", read_message(asked[0], answer, "1")[1])
                    continue
                messages = [message(chance, each, str(place)) for place, each in enumerate(asked)]
                answers = [each async for each in stream(iter(messages), timeout=PATIENCE_S, compression=packing)]
                if len(answers) != len(asked):
                    self.wrong.append(f"a stream of {len(asked)} has {len(answers)} answers")
                for place, (each, answer) in enumerate(zip(asked, answers, strict=False)):
                    if answer.error_message:
                        self._refused(each, "stream", answer.error_message.encode(), hurried=False)
                    else:
                        found = read_message(each, answer.infer_response, str(place))[1]
                        self._look(each, began_s, "stream", found)

    async def _replace(self, chance: Random) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, timeout=PATIENCE_S) as client:
            while self.going:
                await asyncio.sleep(chance.uniform(0.5, 3))
                factor = self._factors[-1][1] + 1
                made = self._folder / "new.onnx"
                made.write_bytes(questions.scaled(factor))
                made.replace(self._folder / "swapped" / "1" / "model.onnx")
                self._factors.append((time.monotonic(), factor))
                answer = await client.post("/v2/repository/models/swapped/load", json={})
                assert answer.status_code == 200, answer.text
                self._replaced_s.append(time.monotonic())
                self.counts["replaced"] += 1

    def _break(self) -> None:
        chance = Random(f"{self._seed} break")
        while self.going:
            time.sleep(chance.uniform(0.5, 3))
            children = psutil.Process(self._server.process.pid).children()
            try:
                lines = {each: " ".join(each.cmdline()) for each in children}
                readers = [each for each, line in lines.items() if "sluice.gateway.reading" in line]
                workers = [each for each, line in lines.items() if "sluice.inference.worker.main" in line]
                broken = chance.choice(readers if readers and chance.random() < 0.4 else workers)
                if chance.random() < 0.6:
                    broken.kill()
                else:
                    broken.suspend()
                    time.sleep(chance.choice((0.2, 1.0, 2.0)))
                    broken.resume()
            except psutil.NoSuchProcess:
                continue
            self.counts["broken"] += 1


@pytest.mark.parametrize("cache", ["none", "memory", "redis"])
def test_every_answer_is_right(cache: str, tmp_path: Path) -> None:
    models = questions.repository(tmp_path / "models")
    settings = {
        "SLUICE_MODELS_DEFAULT": "same_fp32",
        "SLUICE_SERVER_MODEL_CONTROL": "true",
        "SLUICE_CACHE_ENABLED": str(cache != "none").lower(),
        "SLUICE_SERVER_REQUEST_TIMEOUT_S": "60",
        "SLUICE_SERVER_READ_TIMEOUT_S": "30",
    }
    with ExitStack() as stack:
        if cache == "redis":
            settings["SLUICE_CACHE_REDIS_URL"] = stack.enter_context(redis_server(tmp_path / "redis")).url
        server = stack.enter_context(serving(models, *with_grpc(), env=environment(**settings), log=tmp_path / "log"))
        callers = Callers(server, models, SEED, SECONDS * SCALE)
        asyncio.run(callers.all())
        print(f"\nseed {SEED}, cache {cache}: {callers.right:,} right answers, {dict(callers.counts)}")
        assert not callers.wrong, callers.wrong[:5]
        assert not callers.odd, callers.odd[:5]
        assert callers.right > 20 * SECONDS * SCALE
        assert server.stop(signal.SIGTERM) == 0
