"""The gateway that is attacked: a model of each kind, and patience that is short enough to be seen to end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sluice.inference.types import Datatype
from tests import classifiers, hostile_bodies, models
from tests.models import place
from tests.texts import EMBEDDER, write_tokenizer

READ_TIMEOUT_S, KEEP_ALIVE_S, WRITE_TIMEOUT_S, REQUEST_TIMEOUT_S, RUN_TIMEOUT_S = 2.0, 10.0, 5.0, 20.0, 5.0

PATIENCE: Mapping[str, str] = {
    "SLUICE_SERVER_READ_TIMEOUT_S": str(READ_TIMEOUT_S),
    "SLUICE_SERVER_KEEP_ALIVE_TIMEOUT_S": str(KEEP_ALIVE_S),
    "SLUICE_SERVER_WRITE_TIMEOUT_S": str(WRITE_TIMEOUT_S),
    "SLUICE_SERVER_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
    "SLUICE_LOGS_SUCCESSES_PER_S": "1",
    "SLUICE_LOGS_REFUSALS_PER_S": "5",
    "SLUICE_LOGS_FORMAT": "json",
    "SLUICE_MODELS_DEFAULT": "linear",
}

PADDED = '[padding.inputs.ids]\nbuckets = [4, 8, 16]\n\n[padding.inputs.mask]\nlike = "ids"\n'
PICTURES = "[input.image.image]\n"
LABELS = '[labels]\ny = ["no", "maybe", "yes"]\n'
MOST_STEPS = 1_000


def environment(**more: str) -> dict[str, str]:
    """The environment of a gateway under attack."""
    return {**os.environ, **PATIENCE, **more}


def repository(folder: Path, *names: str, most_steps: int = MOST_STEPS) -> Path:
    """These models of the house, all by default, as a repository: numbers, text, pictures, labels, one by one, slow."""
    built = {
        "linear": (models.linear, ""),
        "tiny": (models.tiny, LABELS),
        "alone": (models.fixed_rows, ""),
        "strings": (models.strings, ""),
        "wide": (lambda: models.identity(Datatype.INT64, ["N", "W"]), ""),
        "twofold": (models.two_in_two_out, ""),
        "echo": (lambda: models.identity(Datatype.FP32, ["N", "W"]), ""),
        "sums": (models.any_width, ""),
        "pictures": (models.image, PICTURES),
        "flowers": (lambda: classifiers.named().model, ""),
        "texts": (models.texts, EMBEDDER),
        "padded": (models.texts, PADDED),
        "slow": (lambda: slow(most_steps), ""),
    }
    for name in names or built:
        build, config = built[name]
        limits = f"[workers]\ncount = 1\nintra_op_threads = 1\nrun_timeout_s = {RUN_TIMEOUT_S}\n"
        place(build(), folder / name / "1")
        (folder / name / "model.toml").write_text(config + limits)
    if not names or "texts" in names:
        write_tokenizer(folder / "texts" / "1")
    return folder


def odd_models(folder: Path) -> None:
    """The models of `tests.hostile_bodies` beside those of the house, whose `texts` stay what they are."""
    for name in hostile_bodies.MODELS:
        if not (folder / name).exists():
            place(hostile_bodies.model_file(name), folder / name / "1")
            (folder / name / "model.toml").write_text("[workers]\ncount = 1\nintra_op_threads = 1\n")


def slow(most_steps: int) -> bytes:
    """`tests.models.loop` with a bound on its steps, of some 3 µs each: no caller can make it run on and on."""
    model = onnx.load_from_string(models.loop())
    graph = model.graph
    (most,) = [node for node in graph.node if node.op_type == "ReduceMax"]
    (loop,) = [node for node in graph.node if node.op_type == "Loop"]
    loop.input[0] = "bounded"
    graph.initializer.append(numpy_helper.from_array(np.array(most_steps, np.int64), "bound"))
    nodes = [most, helper.make_node("Min", [most.output[0], "bound"], ["bounded"]), loop]
    del graph.node[:]
    graph.node.extend(nodes)
    serialized: bytes = model.SerializeToString()
    return serialized
