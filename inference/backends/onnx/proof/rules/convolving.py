"""Operators on pictures and signals: [batch, channels, places...]. Channels and places belong to one row."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, constant, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.rules.picking import same_rows
from sluice.inference.backends.onnx.proof.rules.shaping import target_sizes
from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, Size


def batch_first(operation: Operation, place: int = 0) -> tuple[Fact, tuple[Size, ...]]:
    """The fact and shape of an input. Raises `Mixes` if its rows are along another axis than 0."""
    fact, shape = operation.shaped(place)
    if fact.kind is Dependence.ROWS and fact.axis != 0:
        raise Mixes(f"takes axis {fact.axis}, where the rows are, for channels or places of one")
    return fact, shape


def _conv(operation: Operation) -> Sequence[Fact]:
    return [_convolved(operation, 0, 1, range(2, len(operation.inputs)))]


def _quantised_conv(operation: Operation) -> Sequence[Fact]:
    return [_convolved(operation, 0, 3, (1, 2, 4, 5, 6, 7, 8))]


def _convolved(operation: Operation, data: int, kernel: int, others: Sequence[int]) -> Fact:
    fact, shape = batch_first(operation, data)
    weights = operation.same_for_all(kernel, "the kernel")
    for place in others:
        operation.same_for_all(place, "the bias, a scale or a zero point")
    if weights is None or weights.shape is None or len(weights.shape) != len(shape):
        raise Unclear("has a kernel of unknown rank")
    if operation.name == "ConvTranspose":
        channels = weights.shape[1].times(Size(operation.integer("group", 1)))
        return like(fact, [shape[0], channels, *[operation.symbols.fresh() for _ in shape[2:]]], fact.axis)
    kernel_sizes = operation.integers("kernel_shape") or tuple([size.known or 0 for size in weights.shape[2:]])
    return like(fact, [shape[0], weights.shape[0], *_slid(operation, shape[2:], kernel_sizes)], fact.axis)


def _slid(operation: Operation, sizes: Sequence[Size], kernel: Sequence[int]) -> list[Size]:
    """The number of window positions along each axis. Source: the specification of Conv and the pooling operators."""
    rank = len(sizes)
    strides = operation.integers("strides") or (1,) * rank
    dilations = operation.integers("dilations") or (1,) * rank
    pads = operation.integers("pads") or (0,) * 2 * rank
    pad_mode = operation.text("auto_pad") or "NOTSET"
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank or 0 in strides:
        raise Unclear("has not one kernel size, stride and padding for each axis")
    found = []
    for axis, size in enumerate(sizes):
        key = (kernel[axis], strides[axis], dilations[axis], pads[axis], pads[axis + rank], pad_mode)
        ceil = operation.flag("ceil_mode")
        # With automatic padding, how a window with gaps counts is left to the engine.
        if size.known is None or not kernel[axis] or (pad_mode != "NOTSET" and dilations[axis] != 1):
            found.append(operation.symbols.of("slid", size, *key, ceil))
        elif pad_mode in ("SAME_UPPER", "SAME_LOWER"):
            found.append(Size(-(-size.known // strides[axis])))
        else:
            padded = size.known + (pads[axis] + pads[axis + rank] if pad_mode == "NOTSET" else 0)
            room = padded - dilations[axis] * (kernel[axis] - 1) - 1
            steps = -(-room // strides[axis]) if ceil else room // strides[axis]
            # Whether a last window may begin beyond the padded end is left to the engine.
            exact = not ceil or room % strides[axis] == 0
            found.append(Size(steps + 1) if exact and room >= 0 else operation.symbols.of("slid", size, *key, ceil))
    return found


def _pool(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    kernel = operation.integers("kernel_shape")
    if kernel is None:
        raise Unclear("has no kernel_shape")
    pooled = like(fact, [*shape[:2], *_slid(operation, shape[2:], kernel)], fact.axis)
    if operation.outputs < 2:
        return [pooled]
    if fact.kind is Dependence.ROWS:
        return [
            pooled,
            Fact(Dependence.MIXED, because=f"{operation.name} counts the places of maxima over the whole batch"),
        ]
    return [pooled, pooled]


def _quantised_pool(operation: Operation) -> Sequence[Fact]:
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "a scale or a zero point")
    if operation.flag("channels_last"):
        raise Unclear("has its channels last")
    return _global_pool(operation) if "Global" in operation.name else _pool(operation)


def _global_pool(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    return [like(fact, [*shape[:2], *[ONE for _ in shape[2:]]], fact.axis)]


def _by_channel(operation: Operation) -> Sequence[Fact]:
    """Normalises within each channel, or group of channels, of each row."""
    fact, shape = batch_first(operation)
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "the scale")
    return [like(fact, shape, fact.axis) for _ in range(max(1, operation.outputs))]


def _resize(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    named = operation.integers("axes")
    if operation.name == "Resize" and operation.opset >= 11:
        operation.same_for_all(1, "what it cuts out")
    if fact.kind is Dependence.ROWS and operation.text("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Unclear("cuts out before it scales, which is not followed")
    if fact.kind is Dependence.ROWS and operation.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Mixes("scales all axes alike (keep_aspect_ratio_policy), that of the rows too")
    axes = range(len(shape)) if named is None else [axis_of(axis, len(shape)) for axis in named]
    whole = list(shape)
    scales = operation.reals("scales") if operation.opset < 9 else None
    if scales is None:
        scales = _reals(operation.input(1 if operation.name == "Upsample" or operation.opset < 11 else 2))
    sizes = None
    if not scales:
        if operation.name == "Upsample" or operation.input(3) is None:
            raise Unclear("scales by what is not known before it runs")
        sizes = target_sizes(operation, 3)
    for place, axis in enumerate(axes):
        if (len(scales) if scales else len(sizes or ())) != len(axes):
            raise Unclear("has not one scale or size for each axis")
        if sizes is not None:
            same, whole[axis] = sizes[place] == shape[axis], sizes[place]
        else:
            assert scales is not None
            same = scales[place] == 1.0
            whole[axis] = shape[axis] if same else operation.symbols.of("scaled", shape[axis], scales[place])
        if fact.kind is Dependence.ROWS and fact.axis == axis and not same:
            raise Mixes("scales the axis of the rows")
    return [like(fact, whole, fact.axis)]


def _reals(fact: Fact | None) -> tuple[float, ...] | None:
    if fact is None or fact.content is None or any([not isinstance(each, float) for each in fact.content]):
        return None
    return tuple([each for each in fact.content if isinstance(each, float)])


def _space_and_depth(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    block = operation.integer("blocksize", 1)
    if len(shape) != 4 or block < 1:
        raise Unclear("takes four axes and a blocksize")
    channels = Size(block * block)
    if operation.name == "SpaceToDepth":
        sides = [each.over(Size(block)) or operation.symbols.of("/", each, block) for each in shape[2:]]
        return [like(fact, [shape[0], shape[1].times(channels), *sides], fact.axis)]
    depth = shape[1].over(channels) or operation.symbols.of("/", shape[1], block)
    return [like(fact, [shape[0], depth, *[each.times(Size(block)) for each in shape[2:]]], fact.axis)]


def _grid_sample(operation: Operation) -> Sequence[Fact]:
    (fact, shape), (grid, places) = batch_first(operation, 0), batch_first(operation, 1)
    if fact.kind is Dependence.CONSTANT and grid.kind is Dependence.CONSTANT:
        return [like(fact, [*shape[:2], *places[1:-1]], 0)]
    if grid.kind is not fact.kind:
        raise Unclear("samples pictures and grids of which only one has rows")
    same_rows([fact, grid])
    return [like(fact, [*shape[:2], *places[1:-1]], 0)]


def _affine_grid(operation: Operation) -> Sequence[Fact]:
    theta, _ = batch_first(operation)
    if theta.kind is Dependence.COUNT:
        raise Mixes("makes a grid of how many rows there are")
    sizes = target_sizes(operation, 1)
    whole = [sizes[0], *sizes[2:], Size(len(sizes) - 2)]
    if theta.kind is Dependence.ROWS and (sizes[0] != ROWS or theta.outer != ONE):
        raise Unclear("makes a grid for another number of rows")
    return [rows(whole, 0) if theta.kind is Dependence.ROWS else constant(whole)]


def _columns(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    return [like(fact, [shape[0], *[operation.symbols.fresh() for _ in shape[1:]]], fact.axis)]


def _col2im(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    image = target_sizes(operation, 1)
    target_sizes(operation, 2)
    return [like(fact, [shape[0], operation.symbols.fresh(), *image], fact.axis)]


def _deformed(operation: Operation) -> Sequence[Fact]:
    fact, shape = batch_first(operation)
    weights = operation.same_for_all(1, "the kernel")
    operation.same_for_all(3, "the bias")
    masks = [batch_first(operation, place)[0] for place in (2, 4) if operation.input(place) is not None]
    if any([mask.kind is not fact.kind for mask in masks]) or weights is None or weights.shape is None:
        raise Unclear("has an offset or mask of which only one has rows")
    same_rows([fact, *masks])
    return [like(fact, [shape[0], weights.shape[0], *[operation.symbols.fresh() for _ in shape[2:]]], fact.axis)]


RULES: OperatorRules = {
    "Conv": Rule(_conv),
    "ConvInteger": Rule(_conv),
    "ConvTranspose": Rule(_conv),
    "QLinearConv": Rule(_quantised_conv),
    "DeformConv": Rule(_deformed),
    **{name: Rule(_pool) for name in ("AveragePool", "LpPool", "MaxPool")},
    **{name: Rule(_global_pool) for name in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")},
    "QLinearAveragePool": Rule(_quantised_pool),
    "QLinearGlobalAveragePool": Rule(_quantised_pool),
    "InstanceNormalization": Rule(_by_channel),
    "GroupNormalization": Rule(_by_channel),
    "Resize": Rule(_resize, of_counts=True),
    "Upsample": Rule(_resize, of_counts=True),
    "SpaceToDepth": Rule(_space_and_depth),
    "DepthToSpace": Rule(_space_and_depth),
    "GridSample": Rule(_grid_sample),
    "AffineGrid": Rule(_affine_grid, of_counts=True),
    "Col2Im": Rule(_col2im),
    "Im2Col": Rule(_columns),
}
