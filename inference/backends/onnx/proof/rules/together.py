"""Tells from attributes alone which operators combine elements along the first axis, even if no rank is known."""

from __future__ import annotations

from sluice.inference.backends.onnx.proof.facts import numbers_in
from sluice.inference.backends.onnx.proof.operation import Operation, names

_WHOLE = names("DynamicQuantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul NonMaxSuppression NonZero Unique")
_BY_AXIS = {"ArgMax": 0, "ArgMin": 0, "LayerNormalization": -1, "LpNormalization": -1, "TopK": -1}
"""Operators with an attribute `axis`, and its default."""

_SOFTMAX = names("Hardmax LogSoftmax Softmax")


def takes_first_axis(operation: Operation) -> bool:
    """Whether elements along axis 0 surely change one another; false if that is not known."""
    name = operation.name
    if name in _WHOLE:
        return True
    if name.startswith("Reduce"):
        axes = operation.integers("axes") if operation.has("axes") else numbers_in(operation.input(1))
        if axes:
            return 0 in axes
        return (
            operation.input(1) is None and not operation.has("axes") and not operation.integer("noop_with_empty_axes")
        )
    if name in _BY_AXIS:
        return operation.integer("axis", _BY_AXIS[name]) == 0
    if name in _SOFTMAX:
        return operation.integer("axis", -1 if operation.opset >= 13 else 1) == 0
    if name == "MeanVarianceNormalization":
        return 0 in (operation.integers("axes") or (0,))
    return name == "CumSum" and numbers_in(operation.input(1)) == (0,)
