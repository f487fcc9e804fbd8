"""Models written in ONNX's text format, and what is proven about them."""

from __future__ import annotations

from pathlib import Path

import onnx.parser

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.findings import Independence, RowsProof

DOMAINS = '"" : 18, "ai.onnx.ml" : 3, "com.microsoft" : 1'


def text_model(inputs: str, outputs: str, body: str, domains: str = DOMAINS, functions: str = "") -> bytes:
    """A model of the nodes in `body`, as in `y = Relu (x)`, whose inputs are as in `float[N,4] x`."""
    text = (
        f"<ir_version: 9, opset_import: [{domains}]>\nsome_graph ({inputs}) => ({outputs}) {{\n{body}\n}}\n{functions}"
    )
    made: bytes = onnx.parser.parse_model(text).SerializeToString()
    return made


def proof_of(model: bytes, folder: Path) -> RowsProof:
    file = folder / "model.onnx"
    file.write_bytes(model)
    return prove(file)


def verdict(folder: Path, inputs: str, body: str, output: str = "float[N] y", domains: str = DOMAINS) -> Independence:
    return proof_of(text_model(inputs, output, body, domains), folder).verdict
