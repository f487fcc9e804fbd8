"""Operators of ONNX Runtime (com.microsoft), which its tools for optimisation and quantisation put into graphs.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, constant, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.rules import convolving, multiplying, reducing, selecting
from sluice.inference.backends.onnx.proof.rules.elementwise import broadcast, scaled
from sluice.inference.backends.onnx.proof.rules.picking import beside, same_rows
from sluice.inference.backends.onnx.proof.sizes import ONE, Size

_ELEMENTWISE = ["FastGelu", "Gelu", "QuickGelu", "BiasGelu", "Swish"]


def _elementwise(operation: Operation) -> Sequence[Fact]:
    return [broadcast(operation.symbols, [fact for fact in operation.inputs if fact is not None])]


def _fused_mat_mul(operation: Operation) -> Sequence[Fact]:
    if operation.flag("transBatchA") or operation.flag("transBatchB"):
        raise Unclear("exchanges batch axes (transBatchA), which is not followed")
    turned = (operation.flag("transA"), operation.flag("transB"))
    if any(turned) and 1 in (operation.needed(0).rank, operation.needed(1).rank):
        raise Unclear("turns a matrix round and multiplies it by a vector, which the engine does wrongly")
    return [multiplying.multiplied(operation.symbols, operation.needed(0), operation.needed(1), turned)]


def _few_bits(operation: Operation) -> Sequence[Fact]:
    """MatMulNBits: [..., K] times weights of K to N columns."""
    fact, shape = operation.shaped(0)
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "the weights")
    beside(operation, fact, len(shape) - 1, "multiplies and adds up")
    return [like(fact, [*shape[:-1], Size(operation.integer("N"))], fact.axis)]


def _skip_norm(operation: Operation) -> Sequence[Fact]:
    """Input + skip + bias, normalised along the last axis; the sum is an output, too."""
    (fact, shape), skip = operation.shaped(0), operation.needed(1)
    for place in range(2, len(operation.inputs)):
        operation.same_for_all(place, "the scale")
    if fact.kind is not skip.kind and (fact.kind is not Dependence.ROWS or len(shape) != 3 or skip.rank not in (2, 3)):
        raise Unclear("adds up tensors of which only one has rows")
    whole = broadcast(operation.symbols, [fact, skip])
    beside(operation, whole, len(shape) - 1, "normalises")
    unused = Fact(Dependence.UNKNOWN, because="SkipLayerNormalization's means are not followed")
    return [whole, unused, unused, whole][: max(1, operation.outputs)]


def _embedded(operation: Operation) -> Sequence[Fact]:
    """EmbedLayerNormalization: ids [batch, steps] -> vectors [batch, steps, width]."""
    (ids, shape), table = operation.shaped(0), operation.needed(2)
    segments, mask, positions = operation.input(1), operation.input(7), operation.input(8)
    for place in (2, 3, 4, 5, 6):
        operation.same_for_all(place, "the weights")
    if ids.kind is not Dependence.ROWS or ids.axis != 0 or len(shape) != 2 or table.shape is None:
        raise Unclear("takes ids that are no rows of steps")
    for other in (segments, mask, positions):
        if other is not None and (other.kind is not Dependence.ROWS or other.axis != 0):
            raise Unclear("takes segments, masks or positions that are no rows")
    same_rows([each for each in (ids, segments, mask, positions) if each is not None])
    vectors = rows([*shape, table.shape[-1]], 0, ids.outer)
    return [vectors, rows(shape[:1], 0, ids.outer), vectors][: max(1, operation.outputs)]


def _attention(operation: Operation) -> Sequence[Fact]:
    """Attention: [batch, steps, width] times weights; a mask of [batch] or [batch, steps...], or for all."""
    fact, shape = operation.shaped(0)
    weights = operation.same_for_all(1, "the weights")
    for place in (2, *((3, 4) if operation.name == "QAttention" else ()), 6, 7):
        operation.same_for_all(place, "the weights or zero points")
    mask = operation.input(5 if operation.name == "QAttention" else 3)
    others = range(8 if operation.name == "QAttention" else 4, len(operation.inputs))
    if operation.name == "Attention" and operation.input(5) is not None:
        bias = operation.needed(5)
        if bias.kind is not Dependence.CONSTANT or bias.shape is None or bias.shape[0] != ONE:
            raise Unclear("has a bias for each row, which is not followed")
    if operation.outputs > 1 or any([operation.input(place) is not None for place in others if place != 5]):
        raise Unclear("keeps keys and values of earlier calls, which is not followed")
    if fact.kind is Dependence.ROWS and (fact.axis != 0 or len(shape) != 3):
        raise Mixes("takes the rows for steps of one text")
    if mask is not None and Dependence.ROWS in (fact.kind, mask.kind):
        if (
            fact.kind is not mask.kind
            or mask.kind is not Dependence.ROWS
            or mask.axis != 0
            or mask.shape is None
            or mask.shape[0] != shape[0]
            or mask.outer != fact.outer
        ):
            raise Unclear("has a mask that is not one for each row")
        if len(mask.shape) == 1 and mask.outer != ONE:
            raise Unclear("has a mask that is not one for each row")
    own = operation.integers("qkv_hidden_sizes")
    wide = weights.shape[-1].over(Size(3)) if weights is not None and weights.shape else None
    width = Size(own[-1]) if own else wide or operation.symbols.fresh()
    return [like(fact, [*shape[:-1], width], fact.axis)]


def _many_heads(operation: Operation) -> Sequence[Fact]:
    """MultiHeadAttention: query, key and value of [batch, steps, width], packed ones too."""
    query, shape = operation.shaped(0)
    facts = [operation.input(place) for place in (0, 1, 2, 4)]
    operation.same_for_all(3, "the bias")
    bias = operation.same_for_all(5, "the bias of the scores")
    if bias is not None and (bias.shape is None or len(bias.shape) != 4 or bias.shape[0] != ONE):
        raise Unclear("has a bias of scores for another number of rows")
    if operation.outputs > 1 or any([operation.input(place) is not None for place in range(6, len(operation.inputs))]):
        raise Unclear("keeps keys and values of earlier calls, which is not followed")
    given = [fact for fact in facts if fact is not None]
    if any([fact.kind is not Dependence.ROWS or fact.axis != 0 for fact in given]):
        raise Unclear("attends to what has no rows")
    same_rows(given)
    if len(shape) != 3:
        raise Unclear("takes packed queries, which are not followed")
    value = operation.input(2)
    width = value.shape[-1] if value is not None and value.shape and len(value.shape) == 3 else None
    return [rows([*shape[:-1], width or operation.symbols.fresh()], 0, query.outer)]


def _rotated(operation: Operation) -> Sequence[Fact]:
    """RotaryEmbedding: [batch, steps, width] or [batch, heads, steps, width], by positions of [1] or [batch, steps]."""
    fact, shape = operation.shaped(0)
    positions = operation.needed(1)
    if shape[-1].known is not None and shape[-1].known % 2:
        raise Unclear("rotates an odd number of elements, some of which the engine does not write")
    for place in (2, 3):
        operation.same_for_all(place, "the tables")
    if fact.kind is Dependence.ROWS and (
        fact.axis != 0 or positions.kind not in (Dependence.CONSTANT, Dependence.ROWS)
    ):
        raise Mixes("rotates along the axis of the rows")
    if positions.kind is Dependence.CONSTANT and fact.kind is Dependence.ROWS and positions.shape not in ((ONE,), ()):
        raise Unclear("has positions for another number of rows")
    if positions.kind is Dependence.ROWS and (fact.kind is not Dependence.ROWS or positions.rank != 2):
        raise Unclear("has positions that are not one for each step of each row")
    if operation.flag("is_packed_batching"):
        raise Unclear("takes texts of several lengths in one row (is_packed_batching)")
    same_rows([fact, positions])
    return [like(fact, shape, fact.axis)]


def _quantised_pairs(operation: Operation) -> Sequence[Fact]:
    """QLinearAdd and QLinearMul: a, its scale and zero point, b, its scale and zero point, and those of the result."""
    for place in (1, 2, 4, 5, 6, 7):
        operation.same_for_all(place, "a scale or zero point")
    return [broadcast(operation.symbols, [operation.needed(0), operation.needed(3)])]


def _quantised_each(operation: Operation) -> Sequence[Fact]:
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "a scale or zero point")
    fact, shape = operation.shaped(0)
    if operation.name == "QLinearSoftmax":
        axis = axis_of(operation.integer("axis", -1), len(shape))
        if fact.kind is Dependence.ROWS and (
            fact.axis == axis or (operation.integer("opset") < 13 and fact.axis > axis)
        ):
            raise Mixes("normalises over the axis of the rows")
    return [like(fact, shape, fact.axis)]


def _quantised_concat(operation: Operation) -> Sequence[Fact]:
    tensors = range(2, len(operation.inputs), 3)
    for place in range(len(operation.inputs)):
        if place not in tensors:
            operation.same_for_all(place, "a scale or zero point")
    with_rows = same_rows([operation.needed(place) for place in tensors])
    if with_rows is None:
        return [constant()]
    if any([operation.needed(place).kind is not Dependence.ROWS for place in tensors]) or with_rows.shape is None:
        raise Unclear("joins to each row what has no rows")
    axis = axis_of(operation.integer("axis"), len(with_rows.shape))
    beside(operation, with_rows, axis, "joins tensors")
    whole = [operation.symbols.fresh() if place == axis else size for place, size in enumerate(with_rows.shape)]
    return [like(with_rows, whole, with_rows.axis)]


def _quantised_by_axis(operation: Operation) -> Sequence[Fact]:
    return [scaled(operation, (1, 2))]


def _scaled_product(operation: Operation) -> Sequence[Fact]:
    """MatMulIntegerToFloat: a, b, their scales and zero points, and a bias."""
    for place in range(2, len(operation.inputs)):
        operation.same_for_all(place, "a scale or zero point")
    return [multiplying.multiplied(operation.symbols, operation.needed(0), operation.needed(1))]


def _distances(operation: Operation) -> Sequence[Fact]:
    """CDist: [N, features] and [M, features] -> [N, M]."""
    (left, shape), (right, other) = operation.shaped(0), operation.shaped(1)
    if left.kind is Dependence.ROWS and right.kind is Dependence.ROWS:
        raise Mixes("takes the distance of each row from all others")
    for fact in (left, right):
        if fact.kind is Dependence.ROWS and fact.axis != 0:
            raise Mixes("takes distances along the axis of the rows")
    axis = 0 if left.kind is Dependence.ROWS else 1
    return [like(left if axis == 0 else right, [shape[0], other[0]], axis)]


def _fused_conv(operation: Operation) -> Sequence[Fact]:
    """FusedConv: a convolution, and a tensor of the same shape that is added."""
    added = operation.input(3)
    convolved = convolving.RULES["Conv"].follow(
        Operation("Conv", operation.opset, operation.attributes, operation.inputs[:3], 1, operation.symbols)
    )
    if added is None:
        return convolved
    if added.kind is not convolved[0].kind:
        raise Unclear("adds up tensors of which only one has rows")
    return [broadcast(operation.symbols, [convolved[0], added])]


def _dynamic(_: Operation) -> Sequence[Fact]:
    raise Mixes("takes its scale from the smallest and largest value of the whole batch")


RULES: OperatorRules = {
    **{name: Rule(_elementwise) for name in _ELEMENTWISE},
    "FusedMatMul": Rule(_fused_mat_mul),
    "TransposeMatMul": Rule(_fused_mat_mul),
    "FusedGemm": multiplying.RULES["Gemm"],
    "FusedConv": Rule(_fused_conv),
    "MatMulNBits": Rule(_few_bits),
    "MatMulIntegerToFloat": Rule(_scaled_product),
    "LayerNormalization": reducing.RULES["LayerNormalization"],
    "SimplifiedLayerNormalization": reducing.RULES["LayerNormalization"],
    "SkipLayerNormalization": Rule(_skip_norm),
    "SkipSimplifiedLayerNormalization": Rule(_skip_norm),
    "EmbedLayerNormalization": Rule(_embedded),
    "Attention": Rule(_attention),
    "QAttention": Rule(_attention),
    "MultiHeadAttention": Rule(_many_heads),
    "RotaryEmbedding": Rule(_rotated),
    "QuantizeLinear": Rule(_quantised_by_axis),
    "DequantizeLinear": Rule(_quantised_by_axis),
    "QLinearAdd": Rule(_quantised_pairs),
    "QLinearMul": Rule(_quantised_pairs),
    "QLinearSigmoid": Rule(_quantised_each),
    "QLinearLeakyRelu": Rule(_quantised_each),
    "QLinearSoftmax": Rule(_quantised_each),
    "QLinearConcat": Rule(_quantised_concat),
    "QLinearAveragePool": convolving.RULES["QLinearAveragePool"],
    "QLinearGlobalAveragePool": convolving.RULES["QLinearGlobalAveragePool"],
    "CDist": Rule(_distances),
    "Inverse": multiplying.RULES["Inverse"],
    "Trilu": selecting.RULES["Trilu"],
    "DynamicQuantizeMatMul": Rule(_dynamic),
    "DynamicQuantizeLSTM": Rule(_dynamic),
}
