"""Random operators that few models have, and operators into which the engine fuses others: see `random_graphs`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from onnx import NodeProto, TensorProto, helper

from tests.inference.backends.onnx.proof.drafting import Draft, Maker, Proposal, make_node


def _floats(draft: Draft, rng: Generator, *shape: int) -> str:
    return draft.constant(rng.standard_normal(shape), np.float32)


def _bounded(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(), draft.name()
    if x is None:
        return None
    operator = str(rng.choice(["Clip", "LeakyRelu", "HardSigmoid", "Selu", "Celu", "Mish", "Sign", "Round", "Dropout"]))
    bounds = [draft.constant(-0.5, np.float32), draft.constant(0.5, np.float32)] if operator == "Clip" else []
    return [make_node(operator, [x.name, *bounds], [y])], [y]


def _cast(draft: Draft, rng: Generator) -> Proposal | None:
    """To another type and back."""
    x, y, other = draft.pick(), draft.name(), draft.name()
    if x is None:
        return None
    kind = int(rng.choice([TensorProto.INT32, TensorProto.INT64, TensorProto.DOUBLE]))
    return [
        make_node("Cast", [x.name], [other], to=kind),
        make_node("CastLike" if rng.random() < 0.3 else "Cast", [other], [y], to=TensorProto.FLOAT)
        if rng.random() < 0.7
        else make_node("CastLike", [other, x.name], [y]),
    ], [y]


def _resized(draft: Draft, rng: Generator) -> Proposal | None:
    """By scales, or to sizes that are computed from those of the picture."""
    x, y = draft.pick(least=2), draft.name()
    if x is None:
        return None
    if rng.random() < 0.5:
        scales = draft.constant(rng.choice([1.0, 1.0, 2.0], x.rank), np.float32)
        return [make_node("Resize", [x.name, "", scales], [y], mode="nearest")], [y]
    shape, sizes = draft.name(), draft.name()
    factors = draft.constant(rng.choice([1, 1, 2], x.rank), np.int64)
    policy = str(rng.choice(["stretch"] * 8 + ["not_larger", "not_smaller"]))
    return [
        make_node("Shape", [x.name], [shape]),
        make_node("Mul", [shape, factors], [sizes]),
        make_node("Resize", [x.name, "", "", sizes], [y], mode="nearest", keep_aspect_ratio_policy=policy),
    ], [y]


def _channels(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=3), draft.name()
    if x is None or x.rank > 4:
        return None
    kind = int(rng.integers(6))
    if kind == 0:
        return [make_node("LRN", [x.name], [y], size=3)], [y]
    if kind == 1:
        return [make_node("LpPool", [x.name], [y], kernel_shape=[2] * (x.rank - 2))], [y]
    if kind == 2:
        kernel = _floats(draft, rng, x.shape[1], 2, *[2] * (x.rank - 2))
        return [make_node("ConvTranspose", [x.name, kernel], [y])], [y]
    if kind == 3:
        axes = [int(axis) for axis in rng.permutation(x.rank)[: int(rng.integers(1, x.rank))]]
        return [make_node("MeanVarianceNormalization", [x.name], [y], axes=axes)], [y]
    if kind == 4 and x.rank == 4:
        operator = str(rng.choice(["SpaceToDepth", "DepthToSpace"]))
        return [make_node(operator, [x.name], [y], blocksize=2)], [y]
    return [make_node("GlobalLpPool", [x.name], [y])], [y]


def _dropped(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=2), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(-x.rank, x.rank))
    kind = int(rng.integers(3))
    if kind == 0:
        kept = draft.constant(rng.random(x.shape[axis]) < 0.7, np.bool_)
        return [make_node("Compress", [x.name, kept], [y], axis=axis)], [y]
    if kind == 1:
        return [make_node("Trilu", [x.name], [y], upper=int(rng.random() < 0.5))], [y]
    spans = [draft.constant([each], np.int64) for each in (-1, -(2**40), axis, -1)]
    return [make_node("Slice", [x.name, *spans], [y])], [y]


def _by_index(draft: Draft, rng: Generator) -> Proposal | None:
    """Written, reversed, or spread out by what another tensor says."""
    x = draft.pick(least=2)
    if x is None:
        return None
    index, y = draft.name(), draft.name()
    axis = int(rng.integers(-x.rank, x.rank))
    kind = int(rng.integers(4))
    if kind == 0:
        find = make_node("ArgMax", [x.name], [index], axis=axis, keepdims=1)
        depth, values = draft.constant(3, np.int64), draft.constant([0, 1], np.float32)
        where = int(rng.integers(-x.rank - 1, x.rank + 1))
        return [find, make_node("OneHot", [index, depth, values], [y], axis=where)], [y]
    if kind == 1:
        find = make_node("ArgMax", [x.name], [index], axis=axis, keepdims=1)
        most = draft.name()
        along = int(rng.integers(-x.rank, x.rank))
        highest = make_node("ReduceMax", [x.name, draft.constant([axis], np.int64)], [most], keepdims=1)
        return [find, highest, make_node("ScatterElements", [x.name, index, most], [y], axis=along)], [y]
    if kind == 2:
        find = make_node("ArgMax", [x.name], [index], axis=axis, keepdims=1)
        return [find, make_node("GatherND", [x.name, index], [y], batch_dims=int(rng.integers(0, x.rank)))], [y]
    flat, one, batch_axis = draft.name(), draft.name(), int(rng.integers(2))
    nodes = [
        make_node("Flatten", [x.name], [flat], axis=1),
        make_node("ArgMax", [flat], [index], axis=1, keepdims=0),
        make_node("Min", [index, draft.constant(1, np.int64)], [one]),
    ]
    more = {"batch_axis": batch_axis, "time_axis": 1 - batch_axis}
    return [*nodes, make_node("ReverseSequence", [x.name, one], [y], domain="", **more)], [y]


def _fused(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=2), draft.name()
    if x is None:
        return None
    kind = int(rng.integers(5))
    own = "com.microsoft"
    if kind == 0:
        turned = {name: int(rng.random() < 0.5) for name in ("transA", "transB")}
        other = draft.pick(least=2)
        second = other.name if other is not None and rng.random() < 0.5 else _floats(draft, rng, x.shape[-1], 2)
        return [make_node("FusedMatMul", [x.name, second], [y], domain=own, **turned)], [y]
    if kind == 1:
        return [make_node("BiasGelu", [x.name, _floats(draft, rng, x.shape[-1])], [y], domain=own)], [y]
    if kind == 2:
        other = draft.pick(rank=x.rank)
        skip = other.name if other is not None else x.name
        scale = _floats(draft, rng, x.shape[-1])
        return [make_node("SkipLayerNormalization", [x.name, skip, scale], [y], domain=own)], [y]
    if kind == 3 and x.rank == 3:
        weights, bias = _floats(draft, rng, x.shape[-1], 12), _floats(draft, rng, 12)
        return [make_node("Attention", [x.name, weights, bias], [y], domain=own, num_heads=2)], [y]
    return [make_node("QuickGelu", [x.name], [y], domain=own)], [y]


def _of_tables(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(rank=2), draft.name()
    if x is None:
        return None
    own = "ai.onnx.ml"
    kind = int(rng.integers(3))
    if kind == 0:
        numbers = [float(each) for each in rng.standard_normal(2 * x.shape[1])]
        more = {"coefficients": numbers, "targets": 2}
        return [make_node("LinearRegressor", [x.name], [y], domain=own, **more)], [y]
    if kind == 1:
        places = draft.constant(rng.integers(0, x.shape[1], 2), np.int64)
        return [make_node("ArrayFeatureExtractor", [x.name, places], [y], domain=own)], [y]
    return [make_node("Binarizer", [x.name], [y], domain=own, threshold=0.1)], [y]


def _looped(draft: Draft, rng: Generator) -> Proposal | None:
    """A few passes, with a tensor that is handed on, and one that comes out of each."""
    x, y, last = draft.pick(least=1), draft.name(), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(0, x.rank))
    inside: list[NodeProto] = [
        make_node("Identity", ["go"], ["on"]),
        make_node("Softmax", ["state"], ["next"], axis=axis),
        make_node("Neg", ["state"], ["each"]),
    ]
    values = {
        name: helper.make_tensor_value_info(name, kind, None)
        for name, kind in (
            ("pass", TensorProto.INT64),
            *[("go", TensorProto.BOOL), ("on", TensorProto.BOOL)],
            *[(name, TensorProto.FLOAT) for name in ("state", "next", "each")],
        )
    }
    inputs, outputs = ([values[name] for name in words.split()] for words in ("pass go state", "on next each"))
    body = helper.make_graph(inside, "body", inputs, outputs)
    passes, go = draft.constant(2, np.int64), draft.constant(True, np.bool_)
    return [make_node("Loop", [passes, go, x.name], [last, y], body=body)], [y, last]


RARER: Sequence[Maker] = (*[_bounded, _cast, _resized, _channels, _dropped, _by_index, _fused, _of_tables, _looped],)
