"""What is kept of callers' words, by the hundreds of megabytes: nothing that grows."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest

from tests import models
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_bad_days import write_model

MIB = 1 << 20
ROUNDS = 3
CALLS = 30
LONG = MIB
"""Each round sends so many calls of so many bytes of each kind."""


class Caller:
    """One connection that stays open, and lets the cache do what it does."""

    def __init__(self, server: SluiceProcess) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def infer(self, body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
        return self.post("/v2/models/any/infer", json.dumps(body).encode(), **headers)


def row(number: int, width: int = 1) -> dict[str, Any]:
    return v2("x", [1, width], [float(number)] * width)


def parameters(caller: Caller, number: int) -> tuple[int, int]:
    body = row(0) | {"parameters": {"text": f"{number}" + "p" * LONG}}
    return caller.infer(body)[0], 200


def ids(caller: Caller, number: int) -> tuple[int, int]:
    return caller.infer(row(number) | {"id": f"{number}" + "i" * LONG})[0], 200


def outputs(caller: Caller, number: int) -> tuple[int, int]:
    return caller.infer(row(0) | {"outputs": [{"name": f"{number}" + "o" * LONG}]})[0], 400


def inputs(caller: Caller, number: int) -> tuple[int, int]:
    return caller.infer(v2(f"{number}" + "n" * LONG, [1, 1], [1.0]))[0], 400


def versions(caller: Caller, number: int) -> tuple[int, int]:
    """Targets that are remembered with what is wrong with them."""
    return caller.post(f"/v2/models/any/versions/no{number}/infer", b"b" * LONG)[0], 404


def names(caller: Caller, number: int) -> tuple[int, int]:
    return caller.post(f"/v2/models/{number}{'m' * 30_000}/infer", b"b" * LONG)[0], 404


def headers(caller: Caller, number: int) -> tuple[int, int]:
    told = {
        "X-Request-Id": f"{number:0128}",
        "traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01",
        "tracestate": f"a={number}" + "s" * 20_000,
        f"X-Any-{number}": "h" * 30_000,
    }
    return caller.infer(row(number), **told)[0], 200


def shapes(caller: Caller, number: int) -> tuple[int, int]:
    return caller.infer(row(number, 1 + number * 100))[0], 200


KINDS = (parameters, ids, outputs, inputs, versions, names, headers, shapes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    repository = write_model(tmp_path_factory.mktemp("kept"), "any", models.any_width())
    with serving(repository, env=os.environ | {"SLUICE_CACHE_MEMORY_BYTES": "8MiB"}) as one:
        yield one


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_grows_with_what_callers_make_up(
    server: SluiceProcess, kind: Callable[[Caller, int], tuple[int, int]]
) -> None:
    """Three rounds of 30 MiB each; the first may leave behind what allocators keep."""
    caller, process = Caller(server), psutil.Process(server.process.pid)
    grown: list[int] = []
    with closing(caller.connection):
        for round_ in range(ROUNDS):
            for number in range(round_ * CALLS, (round_ + 1) * CALLS):
                status, expected = kind(caller, number)
                assert status == expected
            grown.append(process.memory_info().rss)
    assert grown[-1] - grown[0] < CALLS * LONG
    assert server.client.delete("/admin/cache").status_code == 200
    assert server.client.get("/admin/cache").json()["entries"] == 0
