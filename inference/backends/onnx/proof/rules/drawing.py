"""Operators that draw random numbers: a row gets other numbers in a batch than alone, and in every run."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Fact, computed
from sluice.inference.backends.onnx.proof.operation import Operation, OperatorRules, Rule, Unclear, names

DRAWING = names("RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial")


def _drawn(_: Operation) -> Sequence[Fact]:
    raise Unclear("draws random numbers, one after another over the batch")


def _dropout(operation: Operation) -> Sequence[Fact]:
    """Dropout drops elements in training only."""
    training = operation.input(2)
    known = training.content if training is not None else (False,)
    if known != (False,) or (operation.opset < 7 and not operation.flag("is_test")):
        raise Unclear("may be in training, where it draws what it drops")
    fact = operation.needed(0)
    return [computed(fact), computed(fact)]


RULES: OperatorRules = {**{name: Rule(_drawn) for name in DRAWING}, "Dropout": Rule(_dropout)}
