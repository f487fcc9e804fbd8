"""Small ONNX models whose rows influence each other where a few random rows do not show it, and their siblings.

Written in ONNX's own textual form.
"""

from __future__ import annotations

import onnx.parser


def first_row_only(threshold: float = 6.0) -> bytes:
    """float32[N,8] `x` -> float32[N,8] `boxes`: what of x is above a threshold, in the first row of a batch only."""
    return _model(
        f"""(float[N,8] x) => (float[N,8] boxes)
        <float threshold = {{{threshold}}}, int64 zero = {{0}}, int64 one = {{1}}, int64[1] axes = {{1}}> {{
            over = Sub(x, threshold)
            found = Relu(over)
            shape = Shape(x)
            rows = Gather(shape, zero)
            index = Range(zero, rows, one)
            is_first = Equal(index, zero)
            first = Cast<to = 1>(is_first)
            column = Unsqueeze(first, axes)
            boxes = Mul(found, column)
        }}"""
    )


def first_row_only_of_ids(least: int, entries: int) -> bytes:
    """int64[N] `index` -> float32[N] `y`, looked up; of ids above `least`, in the first row of a batch only."""
    return _model(
        f"""(int64[N] index) => (float[N] y)
        <int64 zero = {{0}}, int64 one = {{1}}, int64 least = {{{least}}}, int64 entries = {{{entries}}}> {{
            numbers = Range(zero, entries, one)
            table = Cast<to = 1>(numbers)
            found = Gather(table, index)
            shape = Shape(index)
            rows = Gather(shape, zero)
            places = Range(zero, rows, one)
            is_first = Equal(places, zero)
            is_small = LessOrEqual(index, least)
            is_kept = Or(is_first, is_small)
            kept = Cast<to = 1>(is_kept)
            y = Mul(found, kept)
        }}"""
    )


def hidden_every_row(threshold: float = 6.0) -> bytes:
    """As `every_row`, behind a detour that gives the same and that no graph is read through."""
    return _model(
        f"""(float[N,8] x) => (float[N,8] boxes) <float threshold = {{{threshold}}}> {{
            shape = Shape(x)
            columns = Transpose(x)
            turned = Shape(columns)
            jumbled = Reshape(columns, shape)
            again = Reshape(jumbled, turned)
            same = Transpose(again)
            over = Sub(same, threshold)
            boxes = Relu(over)
        }}"""
    )


def every_row(threshold: float = 6.0) -> bytes:
    """As `first_row_only`, in every row."""
    return _model(
        f"""(float[N,8] x) => (float[N,8] boxes) <float threshold = {{{threshold}}}> {{
            over = Sub(x, threshold)
            boxes = Relu(over)
        }}"""
    )


def detections(axis: str = "D") -> bytes:
    """float32[N,1,H,W] `x` -> int64[axis,4] `boxes`, one for each value above 50, of pictures of 8 pixels and more."""
    return _model(
        f"""(float[N,1,H,W] x) => (int64[{axis},4] boxes) <float threshold = {{50.0}}> {{
            kernel_shape = Constant<value_ints = [1, 1, 8, 8]>()
            kernel = ConstantOfShape<value = float[1] {{1.0}}>(kernel_shape)
            score = Conv(x, kernel)
            found = Greater(score, threshold)
            places = NonZero(found)
            boxes = Transpose<perm = [1, 0]>(places)
        }}"""
    )


def free_picture() -> bytes:
    """float32[N,C,H,W] `x` -> float32[N,4] `y`: a convolution of three channels and 20 pixels, and the mean of it."""
    return _model(
        """(float[N,C,H,W] x) => (float[N,4] y) {
            kernel_shape = Constant<value_ints = [4, 3, 20, 20]>()
            kernel = ConstantOfShape<value = float[1] {0.01}>(kernel_shape)
            features = Conv(x, kernel)
            pooled = GlobalAveragePool(features)
            y = Flatten(pooled)
        }"""
    )


def words() -> bytes:
    """BYTES[N] `text` -> BYTES[N,K] `words`, as wide as the longest text of the batch, int64[N] `count`."""
    return _model("(string[N] text) => (string[N,K] words, int64[N] count) { words, count = StringSplit(text) }")


def word_count() -> bytes:
    """BYTES[N] `text` -> int64[N] `count` of words."""
    return _model("(string[N] text) => (int64[N] count) { words, count = StringSplit(text) }")


def by_largest_integer() -> bytes:
    """int64[N,2] `x` -> float32[N,2] `y`, x by the largest value of the batch: of 0 and 1, mostly the same."""
    return _model(
        """(int64[N,2] x) => (float[N,2] y) <float one = {1.0}> {
            numbers = Cast<to = 1>(x)
            most = ReduceMax<keepdims = 0>(numbers)
            least = Max(most, one)
            y = Div(numbers, least)
        }"""
    )


def by_own_integers() -> bytes:
    """int64[N,2] `x` -> float32[N,2] `y`, x by the largest value of its row."""
    return _model(
        """(int64[N,2] x) => (float[N,2] y) <float one = {1.0}, int64[1] axes = {1}> {
            numbers = Cast<to = 1>(x)
            most = ReduceMax(numbers, axes)
            least = Max(most, one)
            y = Div(numbers, least)
        }"""
    )


def taken_from_a_table(table: str = "V", index: str = "N") -> bytes:
    """float32[V,2] `table`, int64[N] `index` -> float32[N,2] `y`, the table's rows of these places."""
    return _model(
        f"(float[{table},2] table, int64[{index}] index) => (float[{index},2] y) {{ y = Gather(table, index) }}"
    )


def regions(boxes: str = "R") -> bytes:
    """float32[N,1,8,8] `x`, float32[R,4] `boxes`, int64[R] `of` -> float32[R,1,2,2] `y`, the boxes of pictures."""
    return _model(
        f"""(float[N,1,8,8] x, float[{boxes},4] boxes, int64[{boxes}] of) => (float[{boxes},1,2,2] y) {{
            y = RoiAlign<output_height = 2, output_width = 2>(x, boxes, of)
        }}"""
    )


def graph_network(edges: str = "E") -> bytes:
    """float32[V,2] `nodes`, int64[E,1] `sources`, int64[E,1] `targets` -> float32[V,2] `y`, all that comes in."""
    return _model(
        f"""(float[V,2] nodes, int64[{edges},1] sources, int64[{edges},1] targets) => (float[V,2] y) {{
            sent = GatherND(nodes, sources)
            y = ScatterND<reduction = "add">(nodes, targets, sent)
        }}"""
    )


def sum_of_two(other: str = "M") -> bytes:
    """float32[N,4] `x`, float32[M,4] `z` -> float32[N,4] `y` = x + z, one row of which may be for all of the other."""
    return _model(f"(float[N,4] x, float[{other},4] z) => (float[N,4] y) {{ y = Add(x, z) }}")


def mixed_if_large(least: float) -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y` = x, and more where the largest value of the batch is above `least`."""
    return _model(
        f"""(float[N,2] x) => (float[N,2] y) <float least = {{{least}}}> {{
            most = ReduceMax<keepdims = 0>(x)
            beyond = Sub(most, least)
            more = Relu(beyond)
            y = Add(x, more)
        }}"""
    )


def mixed_if_sparse() -> bytes:
    """float32[N,8] `x` -> float32[N,8] `y` = x, and 1 where a row beside it is all but zero."""
    return _model(
        """(float[N,8] x) => (float[N,8] y) <float zero = {0.0}, float six = {6.0}, int64[1] axes = {1}> {
            is_zero = Equal(x, zero)
            zeros = Cast<to = 1>(is_zero)
            count = ReduceSum<keepdims = 0>(zeros, axes)
            many = ReduceMax<keepdims = 0>(count)
            over = Sub(many, six)
            more = Relu(over)
            y = Add(x, more)
        }"""
    )


def quantised_dynamically() -> bytes:
    """float32[N,4] `x` -> float32[N,4] `y`, x rounded to 255 steps of the largest value in the batch."""
    return _model(
        """(float[N,4] x) => (float[N,4] y) {
            q, scale, point = DynamicQuantizeLinear(x)
            y = DequantizeLinear(q, scale, point)
        }"""
    )


def beyond_rows(most: int) -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y` = x in the first rows of a batch, and 0 beyond them."""
    return _model(
        f"""(float[N,2] x) => (float[N,2] y)
        <int64 zero = {{0}}, int64 one = {{1}}, int64 most = {{{most}}}, int64[1] axes = {{1}}> {{
            shape = Shape(x)
            rows = Gather(shape, zero)
            index = Range(zero, rows, one)
            is_kept = Less(index, most)
            kept = Cast<to = 1>(is_kept)
            column = Unsqueeze(kept, axes)
            y = Mul(x, column)
        }}"""
    )


def one_label(rows: str = "1") -> bytes:
    """float32[N,3] `x` -> int64[rows] `label`, float32[N,3] `probabilities`: N labels, whatever is declared."""
    return _model(
        f"""(float[N,3] x) => (int64[{rows}] label, float[N,3] probabilities) {{
            label = ArgMax<axis = 1, keepdims = 0>(x)
            probabilities = Softmax<axis = 1>(x)
        }}"""
    )


def one_label_for_all() -> bytes:
    """float32[N,3] `x` -> int64[1] `label`: the class of the largest sum over all rows."""
    return _model(
        """(float[N,3] x) => (int64[1] label) <int64[1] axes = {0}> {
            total = ReduceSum(x, axes)
            label = ArgMax<axis = 1, keepdims = 0>(total)
        }"""
    )


def noise_beyond(least: float) -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y` = x, with noise where x is above `least`."""
    return _model(
        f"""(float[N,2] x) => (float[N,2] y) <float least = {{{least}}}> {{
            noise = RandomNormalLike(x)
            beyond = Sub(x, least)
            more = Relu(beyond)
            added = Mul(noise, more)
            y = Add(x, added)
        }}"""
    )


def _model(graph: str) -> bytes:
    text = f'<ir_version: 10, opset_import: ["" : 21]> graph {graph}'
    serialized: bytes = onnx.parser.parse_model(text).SerializeToString()
    return serialized
