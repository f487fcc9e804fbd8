"""Make the smallest model of one's own, y = 2x - 1: run `python -m examples.linear.make`."""

from __future__ import annotations

from pathlib import Path

import onnx

MODEL_FILE = Path(__file__).resolve().parents[1] / "models/linear/1/model.onnx"

LINEAR = """
<ir_version: 8, opset_import: ["": 17]>
linear (float[rows, 1] x) => (float[rows, 1] y)
<float two = {2.0}, float one = {1.0}>
{
    doubled = Mul(x, two)
    y = Sub(doubled, one)
}
"""


def model() -> bytes:
    """The model's bytes, the same every time."""
    parsed = onnx.parser.parse_model(LINEAR)
    onnx.checker.check_model(parsed, full_check=True)
    return bytes(parsed.SerializeToString(deterministic=True))


if __name__ == "__main__":
    MODEL_FILE.parent.mkdir(parents=True, exist_ok=True)
    MODEL_FILE.write_bytes(model())
    print(f"wrote {MODEL_FILE}")
