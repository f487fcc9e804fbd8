"""The rules: what each operator does to the rows. There is a file for each kind of operator."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.inference.backends.onnx.proof.operation import OperatorRules
from sluice.inference.backends.onnx.proof.rules import (
    convolving,
    drawing,
    elementwise,
    fused,
    learned,
    multiplying,
    picking,
    recurrent,
    reducing,
    selecting,
    shaping,
    texts,
)

_ONNX: OperatorRules = {
    **elementwise.RULES,
    **shaping.RULES,
    **picking.RULES,
    **selecting.RULES,
    **multiplying.RULES,
    **convolving.RULES,
    **reducing.RULES,
    **recurrent.RULES,
    **texts.RULES,
    **drawing.RULES,
}

RULES: Mapping[str, OperatorRules] = {
    "": _ONNX,
    "ai.onnx": _ONNX,
    "ai.onnx.ml": {**learned.RULES, **texts.LEARNED_RULES},
    "com.microsoft": {**fused.RULES, **texts.MICROSOFT_RULES},
}
"""The rules by the operators' domains and names."""
