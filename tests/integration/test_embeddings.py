"""OpenAI's embeddings with OpenAI's own client, over a real socket and with real workers."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.inference.types import Array
from tests import models
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving, v2
from tests.integration.test_bad_days import write_model
from tests.texts import EMBEDDER, word_tokenizer, write_tokenizer

TABLE: Array = np.arange(1, 101, dtype=np.float32).reshape(50, 2)
"""The vectors of tokens in `tests.models.texts`."""

TEXTS = [
    "to be",
    "or not to be",
    "that is the question",
    "whether tis nobler in the mind",
    "to be",
    "slings and arrows",
]
CACHED = {"Cache-Control": ""}


def write_texts(folder: Path, config: str = EMBEDDER) -> Path:
    repository = write_model(folder, "texts", models.texts(), config)
    write_tokenizer(repository / "texts" / "1")
    return repository


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    repository = write_texts(tmp_path_factory.mktemp("models"))
    write_model(repository, "tiny", models.tiny())
    with serving(repository) as process:
        yield process


@pytest.fixture
def client(server: SluiceProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="ignored", max_retries=0, timeout=PATIENCE_S) as it:
        yield it


def by_hand(ids: Sequence[int]) -> Array:
    mean: Array = TABLE[list(ids)].mean(axis=0)
    scaled: Array = mean / np.linalg.norm(mean)
    return scaled


def token_ids(text: str) -> list[int]:
    return list(word_tokenizer().encode(text).ids)


def post(server: SluiceProcess, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.client.post("/v1/embeddings", content=content, headers=headers or None)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}], ids=["base64, the client's default", "float"])
def test_the_clients_numbers_are_the_models(client: openai.OpenAI, form: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="texts", input=TEXTS, **form)
    assert [each.index for each in answer.data] == list(range(len(TEXTS)))
    for each, text in zip(answer.data, TEXTS, strict=True):
        assert np.allclose(each.embedding, by_hand(token_ids(text)), atol=1e-6)
    assert answer.model == "texts"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(token_ids(text)) for text in TEXTS)


def test_one_text_tokens_and_lists_of_tokens(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="texts", input="to be").data
    assert np.allclose(one[0].embedding, by_hand([1, 3, 4, 2]), atol=1e-6)
    tokens = client.embeddings.create(model="texts", input=[1, 3, 4, 2]).data
    assert tokens[0].embedding == one[0].embedding
    lists = client.embeddings.create(model="texts", input=[[9], [1, 3, 4, 2], [5, 6]]).data
    assert lists[1].embedding == one[0].embedding
    assert np.allclose(lists[2].embedding, by_hand([5, 6]), atol=1e-6)


def test_fewer_dimensions(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="texts", input="to be", dimensions=1)
    assert answer.data[0].embedding == [1]


async def test_the_asynchronous_client(server: SluiceProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="ignored", timeout=PATIENCE_S) as client:
        answer = await client.embeddings.create(model="texts", input=TEXTS)
    assert np.allclose(answer.data[0].embedding, by_hand(token_ids(TEXTS[0])), atol=1e-6)


def test_models_that_embed_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["texts"]


def test_a_model_is_told_of_by_itself(client: openai.OpenAI) -> None:
    """By the path that TensorFlow Serving has for the same purpose."""
    listed, told = next(iter(client.models.list())), client.models.retrieve("texts")
    assert told.to_dict().pop("model_version_status") == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    for model in (listed, told):
        assert (model.id, model.object, model.owned_by) == ("texts", "model", "sluice")
    assert 1_700_000_000 < told.created == listed.created <= time.time()
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("nobody")
    assert "unknown model: 'nobody'" in str(refused.value.body)  # in TensorFlow Serving's form, which is a text


@pytest.mark.parametrize("dimensions", [-1, 0, 3, 2**31, 2**70, 1.5, "1"])
def test_the_client_is_told_that_it_is_the_dimensions(client: openai.OpenAI, dimensions: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="texts", input="to be", dimensions=dimensions)
    assert refused.value.param == "dimensions"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "texts", "input": ["to be"] * 2049}, openai.BadRequestError, "2049 texts"),
        ({"model": "texts", "input": "to " * 30}, openai.BadRequestError, "32 tokens; the model's maximum is 24"),
        ({"model": "texts", "input": ""}, openai.BadRequestError, "text 0 is empty"),
        ({"model": "texts", "input": [[1, 10**6]]}, openai.BadRequestError, "token 1000000"),
        ({"model": "texts", "input": "to be", "dimensions": 3}, openai.BadRequestError, "the model has 2"),
        ({"model": "tiny", "input": "to be"}, openai.BadRequestError, "does not embed texts"),
        ({"model": "nobody", "input": "to be"}, openai.NotFoundError, "unknown model: 'nobody'"),
    ],
)
def test_the_client_understands_what_is_wrong(
    client: openai.OpenAI, body: dict[str, Any], status: type[openai.APIStatusError], message: str
) -> None:
    with pytest.raises(status) as refused:
        client.embeddings.create(**body)
    assert refused.value.type == "invalid_request_error"
    assert message in refused.value.message


def test_another_method_is_not_allowed(server: SluiceProcess) -> None:
    answer = server.client.get("/v1/embeddings")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_text_is_found_in_the_cache_whatever_its_neighbours(server: SluiceProcess) -> None:
    def asked(*texts: str) -> str:
        answer = post(server, {"model": "texts", "input": texts}, **CACHED)
        assert answer.status_code == 200
        return str(answer.headers["x-cache"])

    assert asked("outrageous fortune") == "miss; rows=0/1"
    assert asked("fortune", "outrageous fortune", "to suffer slings and arrows of fortune") == "partial; rows=1/3"
    assert asked("to suffer slings and arrows of fortune") == "hit; rows=1/1"
    assert asked("outrageous fortune", "outrageous fortune", "fortune") == "hit; rows=3/3"
    by_tokens = post(server, {"model": "texts", "input": token_ids("outrageous fortune")}, **CACHED)
    assert by_tokens.headers["x-cache"] == "hit; rows=1/1"


def test_the_same_body_again_is_answered_from_the_cache(server: SluiceProcess) -> None:
    answers = [post(server, {"model": "texts", "input": "the mind"}, **CACHED) for _ in range(4)]
    assert [each.headers["x-cache"] for each in answers] == ["miss; rows=0/1"] + 3 * ["hit; rows=1/1"]
    assert len({each.content for each in answers}) == 1


def test_texts_of_different_lengths_share_lines(server: SluiceProcess) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: post(server, {"model": "texts", "input": [text, "be"]}), TEXTS * 4))
    page = server.client.get("/v2/models/texts/config").json()
    lines = {curve["key"] for curve in page["sluice"]["curves"]}
    assert 1 <= len(lines) <= 3, "one for each bucket, though the texts have more lengths"


def test_callers_of_v2_send_ids_to_the_same_model(server: SluiceProcess) -> None:
    body = {
        "inputs": v2("ids", [1, 2], [5, 6], "INT64")["inputs"] + v2("mask", [1, 2], [1, 1], "INT64")["inputs"],
        "outputs": [{"name": "logits"}],
    }
    vectors = np.array(server.outputs("texts", body)["logits"]).reshape(-1, 2)[:2]
    embedding = post(server, {"model": "texts", "input": [5, 6]}).json()["data"][0]["embedding"]
    mean = vectors.mean(axis=0)
    assert np.allclose(mean / np.linalg.norm(mean), embedding, atol=1e-6)


def test_a_long_text_does_not_stall_its_neighbours(server: SluiceProcess) -> None:
    """A megabyte is refused for its length once its beginning is tokenised; others are answered meanwhile."""
    long: list[Any] = []
    text = "whether tis nobler in the mind to suffer " * 25_000
    calling = threading.Thread(target=lambda: long.append(post(server, {"model": "texts", "input": text})))
    calling.start()
    answered_meanwhile = 0
    while calling.is_alive():
        assert post(server, {"model": "texts", "input": "to be"}).status_code == 200
        answered_meanwhile += 1
    assert long[0].status_code == 400
    assert "tokens; the model's maximum is 24" in long[0].json()["error"]["message"]
    assert answered_meanwhile >= 1


def test_metrics_name_the_dialect(server: SluiceProcess) -> None:
    post(server, {"model": "texts", "input": "to be"})
    assert server.metric("sluice_requests_total", model="texts", dialect="openai") >= 1


LIKELY = st.fixed_dictionaries(
    {"model": st.sampled_from(["texts", "tiny", "", "nobody"])},
    optional={
        "input": st.text(max_size=40)
        | st.lists(st.text(max_size=20), max_size=5)
        | st.lists(st.integers(-1, 30) | st.lists(st.integers(-1, 30), max_size=30), max_size=5)
        | st.floats(allow_nan=False)
        | st.none(),
        "encoding_format": st.sampled_from(["float", "base64", "hex", None]),
        "dimensions": st.integers(-1, 4) | st.none() | st.booleans(),
    },
)


@given(st.binary(max_size=100) | LIKELY.map(lambda body: json.dumps(body).encode()))
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_is_a_fault_of_the_server(server: SluiceProcess, body: bytes) -> None:
    answer = post(server, body)
    assert answer.status_code in (200, 400, 404), answer.text
    assert ("error" in answer.json()) == (answer.status_code != 200)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ('[text]\npooling = "mean"\ntokenizer = "none.json"', "there is no 'none.json' in"),
        ('[text]\npooling = "mean"', "text.ids: the model has no input 'input_ids'"),
        ('[text]\npooling = "mean"\ntokenizer = "model.onnx"', "model.onnx holds no tokenizer"),
    ],
)
def test_what_does_not_suit_the_model_ends_the_start(tmp_path: Path, config: str, fault: str) -> None:
    command = [str(SLUICE), "serve", str(write_texts(tmp_path, config)), "--port", "0", "--grpc-port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert fault in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_tokenizer_may_lie_beside_model_toml_and_long_texts_be_cut(tmp_path: Path) -> None:
    config = EMBEDDER.replace("max_tokens = 24", "max_tokens = 4\ntruncate = true")
    repository = write_model(tmp_path, "texts", models.texts(), config)
    write_tokenizer(repository / "texts")
    with serving(repository) as process:
        answer = post(process, {"model": "texts", "input": ["to be or not to be", "to"]}).json()
    assert answer["usage"]["prompt_tokens"] == 4 + 3
    assert np.allclose(answer["data"][0]["embedding"], by_hand([1, 3, 4, 2]), atol=1e-6)
