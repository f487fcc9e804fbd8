"""The locale that the image has for text models, made as the Dockerfile makes it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests import models
from tests.integration.server import serving, v2

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def lower_cased() -> bytes:
    """BYTES[N] `x` -> BYTES[N] `y` in lower case, by the locale that scikit-learn's vectorisers are exported with."""
    node = helper.make_node(
        "StringNormalizer", ["x"], ["y"], case_change_action="LOWER", is_case_sensitive=0, locale="en_US.UTF-8"
    )
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["N"]) for name in ("x", "y")]
    graph = helper.make_graph([node], "graph", values[:1], values[1:])
    opsets = [helper.make_opsetid("", models.OPSET)]
    serialized: bytes = helper.make_model(graph, ir_version=models.IR_VERSION, opset_imports=opsets).SerializeToString()
    return serialized


def test_a_text_model_is_served_with_the_images_locale(tmp_path: Path) -> None:
    made = re.search(r"^RUN cp -r (\S+) /usr/lib/locale/(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert made is not None
    if not Path(made[1]).is_dir():
        pytest.skip(f"this machine has no {made[1]} to copy")
    shutil.copytree(made[1], tmp_path / "locales" / made[2])
    models.place(lower_cased(), tmp_path / "models/text/1")
    with serving(tmp_path / "models", env=os.environ | {"LOCPATH": str(tmp_path / "locales")}) as server:
        body = v2("x", [2], ["Größe ÉÀ", "ΣΟΦΙΑ"], "BYTES")
        assert server.outputs("text", body) == {"y": ["größe éà", "σοφια"]}
