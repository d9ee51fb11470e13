"""Sizes are equal for sure, or not known to be."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Size, same_grid, same_sizes
from pagdeploy.ops.derive import register_schemas

HEADER = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
sizes (float[n, 3, h, w] x, float[n, 3, 2, w] z) => (y)
<float[4, 3, 3, 3] w = {}, int64[1] k1 = {1}, int64[1] k2 = {2}, int64[1] k4 = {4},
 int64[1] four = {4}, float[2] levels = {0, 1}, float[3, 1] lin = {1, 2, 3},
 int64[4] flat = {-1, 1, 1, 1}, int64[1] k0 = {0}, int64[1] k3 = {3}, int64[1] minus = {-1},
 int64[1] far = {9223372036854775807}, float[4] fourfold = {1, 1, 4, 4},
 int64[3] joined = {0, 3, -1}, int64[4] one = {1, 1, 1, 1}, int64[2] space = {2, 3},
 int64[2] zeros = {0, 0}, int64[3] steps = {1, -1, 3},
 float[1, 3, 3] gw = {1, 1, 1, 1, 1, 1, 1, 1, 1},
 float[1, 3, 1] gr = {1, 1, 1},
 float[3, 1, 2, 2] up = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
 float[4] twice = {1, 1, 2, 2}>
"""
SAME = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
HALF = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>"
SIZES = (
    "s = Shape (x) n = Slice (s, k0, k1) h = Slice (s, k2, k3) w_ = Slice (s, k3, k4)"
    " first = ReduceMax <axes = [1, 2, 3]> (x)"
)


def sizes_of(statements: str, *names: str):
    weights = ", ".join("1" for _ in range(4 * 27))
    text = f"{HEADER.replace('w = {}', f'w = {{{weights}}}')}{{ {statements} }}"
    register_schemas()
    inferred = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    model = ir.from_proto(inferred)
    book = ShapeBook(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    values |= {value.name: value for value in model.graph.inputs}
    return [book.of(values[name]) for name in names]


EQUAL = {
    "a convolution keeps the size": f"y = Conv {SAME} (x, w)",
    "automatic padding": 'y = Conv <kernel_shape = [3, 3], auto_pad = "SAME_UPPER"> (x, w)',
    "elementwise": "a = Relu (x) b = Add (a, x) y = Clip (b)",
    "one row to each": "m = ReduceMean <axes = [2]> (x) y = Mul (x, m)",
    "resized to the size of the other": "s = Shape (x) a = Slice (s, k2, k4)"
    " o = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (o, k1, a)"
    " p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"
    " y = Resize (p, , , t)",
    "cut along the channels": "y, z2, z3 = Split <axis = 1> (x)",
    "joined along the channels": "y = Concat <axis = 1> (x, x)",
    "there and back": "a = Transpose <perm = [0, 2, 3, 1]> (x)"
    " y = Transpose <perm = [0, 3, 1, 2]> (a)",
    "batch of a linear layer": "p = GlobalAveragePool (x) f = Flatten (p) l = Gemm (f, lin)"
    " r = Reshape (l, flat) y = Add (x, r)",
    "one-hot of an index": "i = ArgMax <axis = 1, keepdims = 0> (x) o = OneHot (i, k4, levels)"
    " y = Transpose <perm = [0, 3, 1, 2]> (o)",
    "filled": "s = Shape (x) y = ConstantOfShape (s)",
    "in and out": "a = Unsqueeze (x, k1) y = Squeeze (a, k1)",
    "a gate's": "y = pagdeploy.PAGGate (x)",
    "a hidden state per image": "p = GlobalAveragePool (x) "
    "r = Reshape (p, steps) a, b = GRU <hidden_size = 1> (r, gw, gr) c = Reshape (b, flat)"
    " y = Add (x, c)",
    "reshaped by computed sizes": f"{SIZES} t = Concat <axis = 0> (n, k3, minus)"
    " a = Reshape (x, t) u = Concat <axis = 0> (n, k3, h, w_) y = Reshape (a, u)",
    "zeros and a minus one": f"{SIZES} a = Reshape (x, joined)"
    " u = Concat <axis = 0> (n, minus, h, w_) y = Reshape (a, u)",
    "halved and doubled numbers": f"{SIZES} a = Mul (h, k4) b = Div (a, k2) c = Div (b, k2)"
    " t = Concat <axis = 0> (n, k1, c, w_) y = Expand (first, t)",
    "expanded where no size is -1": f"{SIZES} t = Concat <axis = 0> (n, k1, h, w_)"
    " e = Equal (t, minus) u = Where (e, one, t) y = Expand (first, u)",
    "blocks cut to the map": "p = MaxPool <kernel_shape = [4, 4], strides = [4, 4], ceil_mode = 1>"
    f" (x) r = Resize (p, , fourfold) {SIZES} t = Concat <axis = 0> (h, w_)"
    " y = Slice (r, zeros, t, space)",
    "cut to the end": "y = Slice (x, k0, far, k2)",
    "pooled, then repeated by a transposed convolution": "a = ConvTranspose <strides = [2, 2]>"
    " (x, up) y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)",
    "resized there and back": "a = Resize (x, , twice)"
    " y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)",
}


@pytest.mark.parametrize("case", EQUAL)
def test_same_rows_and_columns(case):
    x, y = sizes_of(EQUAL[case], "x", "y")
    assert same_grid(x, y)


DIFFERENT = {
    "stride": f"y = Conv {HALF} (x, w)",
    "no padding": "y = Conv <kernel_shape = [3, 3]> (x, w)",
    "mean over rows": "y = ReduceMean <axes = [2]> (x)",
    "another size": "y = Relu (z)",
    "resized": "y = Resize (x, , twice)",
    "turned": "y = Transpose <perm = [0, 1, 3, 2]> (x)",
    "joined along the rows": "y = Concat <axis = 2> (x, x)",
    "unknown shape": "s = NonZero (x) y = Reshape (x, s)",
    "automatic padding with a stride": "y = Conv <kernel_shape = [3, 3], strides = [2, 2],"
    ' auto_pad = "SAME_UPPER"> (x, w)',
    "rounded up": "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)",
    "rounded down, then doubled": "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"
    " y = Resize (p, , twice)",
    "rounded up, then doubled": "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2],"
    " ceil_mode = 1> (x) y = Resize (p, , twice)",
    "cut to more than there may be": "p = MaxPool <kernel_shape = [4, 4], strides = [4, 4]> (x)"
    f" r = Resize (p, , fourfold) {SIZES} t = Concat <axis = 0> (h, w_)"
    " y = Slice (r, zeros, t, space)",
    "cut at a number that is read": "i = ArgMax <axis = 1> (x) j = ReduceMax <keepdims = 0> (i)"
    " e = Unsqueeze (j, k0) y = Slice (x, k0, e, k2)",
    "cut from a number that is read": "i = ArgMax <axis = 1> (x) j = ReduceMax <keepdims = 0> (i)"
    " e = Unsqueeze (j, k0) y = Slice (x, e, far, k2)",
    "reshaped by a number that may be 0 or -1": f"{SIZES} i = ArgMax <axis = 1> (x)"
    " j = ReduceMax <keepdims = 0> (i) e = Unsqueeze (j, k0) t = Concat <axis = 0> (n, k3, e, w_)"
    " y = Reshape (x, t)",
    "an image turned": f"{SIZES} t = Concat <axis = 0> (n, k3, w_, h) y = Reshape (x, t)",
    "padding that runtimes disagree of": "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2],"
    " pads = [1, 1, 1, 1], ceil_mode = 1> (x)",
    "one more than it is": f"{SIZES} a = Add (h, k1) t = Concat <axis = 0> (n, k1, a, w_)"
    " y = Expand (first, t)",
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_other_rows_or_columns(case):
    x, y = sizes_of(DIFFERENT[case], "x", "y")
    assert not same_grid(x, y)


def test_two_ways_to_one_size():
    p, q = sizes_of(
        f"p = Conv {HALF} (x, w) a = Relu (x) q = MaxPool {HALF} (a) y = Identity (p)", "p", "q"
    )
    assert same_grid(p, q)
    assert not same_sizes(p, q)  # other channels


def test_numbers_are_computed():
    (p,) = sizes_of("a = Slice (z, k1, k2, k1) y = Concat <axis = 1> (a, z)", "y")
    assert [size.expression for size in p[1:3]] == [4, 2]


def test_a_broadcast_of_unknown_sizes_is_a_size_of_its_own():
    one, other = Size("a"), Size("b")
    assert not one.same(other)
    assert Size("a", "h").same(Size("b", "h"))


@pytest.mark.parametrize(
    ("body", "same"),
    [
        ("y, z2 = Split <axis = 2> (x, pair)", True),  # 3 and 3
        ("y, z2 = Split <axis = 2> (x, uneven)", False),  # 1 and 5
        ("y, z2 = Split <axis = 2> (x, computed)", False),  # nobody says
    ],
)
def test_parts_of_a_split_are_of_one_size_only_if_that_is_said(body, same):
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, c, h, w] x, int64[2] computed) => (float[n, c, i, w] y)
    <int64[2] pair = {{3, 3}}, int64[2] uneven = {{1, 5}}> {{ {body} }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    (node,) = model.graph
    for value in node.outputs:
        value.shape = None  # what inference left out
    book = ShapeBook(model)
    one, other = (book.of(value) for value in node.outputs)
    assert same_grid(one, other) == same
