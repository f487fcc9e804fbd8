"""*embeddings*: texts by OpenAI's protocol, computed and from the cache, beside what tokenising them takes alone."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.processes import NO_CACHE, sluice
from benchmarks.scenarios import Report, at_most, median_of
from benchmarks.wrk import Load, drive
from tests import models as built
from tests.texts import WORDS, word_tokenizer

CONFIG = """
[text]
pooling = "mean"

[padding.inputs.input_ids]
buckets = [16, 32, 64]

[padding.inputs.attention_mask]
like = "input_ids"
"""
TEXTS = {"1 text": 1, "64 texts": 64}
CONNECTIONS = 8


def embeddings(models: Path, rounds: int, duration_s: int) -> Report:
    """Texts of 4 to 60 words in calls of one and of 64, by 8 connections."""
    folder = models / "texts"
    built.place(built.token_vectors(), folder / "texts" / "1")
    (folder / "texts" / "model.toml").write_text(CONFIG)
    word_tokenizer().save(str(folder / "texts" / "tokenizer.json"))
    texts = {name: _texts(number) for name, number in TEXTS.items()}
    loads: dict[tuple[str, str], list[Load]] = {}
    with sluice(folder, settings=NO_CACHE) as computing, sluice(folder, settings={}) as cached:
        for _ in range(rounds):
            for name, each in texts.items():
                body = json.dumps({"model": "texts", "input": each, "encoding_format": "base64"}).encode()
                for way, server in (("computed", computing), ("in memory", cached)):
                    load = drive(server, "/v1/embeddings", body, CONNECTIONS, duration_s)
                    loads.setdefault((name, way), []).append(load)
    seen = {key: median_of(each) for key, each in loads.items()}
    alone = {name: _tokenised_s(each, 20 * rounds) for name, each in texts.items()}
    rows: list[list[str | float]] = []
    for (name, way), load in seen.items():
        number = TEXTS[name]
        rows.append([name, way, load.requests_per_s * number, load.p50_ms, load.p99_ms, load.cpu_s_per_1000 / number])
    rows += [[name, "tokenised alone", "", "", "", 1000 * alone[name] / TEXTS[name]] for name in texts]
    hit = seen["64 texts", "in memory"].cpu_s_per_1000 / seen["64 texts", "computed"].cpu_s_per_1000
    return Report(
        "embeddings: texts of 4 to 60 words by OpenAI's protocol, 128 dimensions, 8 connections",
        ["call", "way", "texts/s", "p50 ms", "p99 ms", "CPU s / 1000 texts"],
        rows,
        [at_most("CPU of 64 texts in memory over computed", hit, 1)],
    )


def _texts(number: int) -> list[str]:
    draws = np.random.default_rng(0)
    return [" ".join(draws.choice(WORDS.split(), draws.integers(4, 61))) for _ in range(number)]


def _tokenised_s(texts: list[str], repeats: int) -> float:
    """Processor time, of all of the library's threads."""
    tokenizer = word_tokenizer()
    taken = []
    for _ in range(repeats):
        before_s = time.process_time()
        tokenizer.encode_batch_fast(texts)
        taken.append(time.process_time() - before_s)
    return statistics.median(taken)
