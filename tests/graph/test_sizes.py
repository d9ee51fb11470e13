"""Sizes are equal for sure, or not known to be."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Size, same_grid, same_sizes

HEADER = """<ir_version: 8, opset_import: ["" : 17]>
sizes (float[n, 3, h, w] x, float[n, 3, 2, w] z) => (y)
<float[4, 3, 3, 3] w = {}, int64[1] k1 = {1}, int64[1] k2 = {2}, int64[1] k4 = {4},
 int64[1] four = {4}, float[2] levels = {0, 1}, float[3, 1] lin = {1, 2, 3},
 int64[4] flat = {-1, 1, 1, 1},
 float[4] twice = {1, 1, 2, 2}>
"""
SAME = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
HALF = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>"


def sizes_of(statements: str, *names: str):
    weights = ", ".join("1" for _ in range(4 * 27))
    text = f"{HEADER.replace('w = {}', f'w = {{{weights}}}')}{{ {statements} }}"
    model = ir.from_proto(onnx.parser.parse_model(text))
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
