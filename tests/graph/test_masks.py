"""Masks are tables over one decision; what is none has no table."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from pagdeploy.graph.masks import Masks, Origin
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.ops.derive import register_schemas

HEADER = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
masks (float[n, 3, h, w] l, float[n, 2, h, w] l2, float[n, 1, h, w] g, float[n, 2, 1, 1] p)
    => (v)
<float zero = {0}, float half = {0.5}, float one = {1}, int32 b0 = {0}, int32 b1 = {1},
 int64 k1 = {1}, int64[1] a0 = {0}, int64[1] a1 = {1}, int64[1] a2 = {2}, int64[1] last = {-1},
 int64 depth = {3}, float[2] levels = {0, 1}, int32[3] three = {0, 1, 2},
 int64[8] around = {0, 0, 1, 1, 0, 0, 1, 1}, int64[8] deeper = {0, 1, 1, 1, 0, 0, 1, 1},
 int64[4] more = {1, 1, 1, 2}, float[1, 1, 1, 2] halves = {0.5, 0.5},
 float[1, 1, 3, 3] box = {1, 1, 1, 1, 1, 1, 1, 1, 1}>
"""
GATE = "s = pagdeploy.PAGGate (l) s2 = pagdeploy.PAGGate (l2) si = pagdeploy.PAGGate (p)"
ON = "t = Equal (s2, b1) m = Cast <to = 1> (t)"


def masks_of(statements: str):
    register_schemas()
    proto = onnx.parser.parse_model(f"{HEADER}{{ {GATE} {statements} }}")
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    values = {value.name: value for node in model.graph for value in node.outputs}
    return Masks(model, ShapeBook(model)), values["v"]


TABLES = {
    "index": ("v = Cast <to = 7> (s)", "n1hw", [[0, 1, 2]]),
    "one branch": ("v = Equal (s, b1)", "n1hw", [[0, 1, 0]]),
    "all but one": ("e = Equal (s, b1) v = Not (e)", "n1hw", [[1, 0, 1]]),
    "1 - m": (f"{ON} v = Sub (one, m)", "n1hw", [[1, 0]]),
    "a half": (f"{ON} v = Mul (m, half)", "n1hw", [[0, 0.5]]),
    "one of two branches": (
        "e = Equal (s, b0) f = Equal (s, b1) v = Or (e, f)",
        "n1hw",
        [[1, 1, 0]],
    ),
    "choice of numbers": (f"{ON} v = Where (t, half, one)", "n1hw", [[1, 0.5]]),
    "bounded": (f"{ON} a = Add (m, m) v = Clip (a, zero, one)", "n1hw", [[0, 1]]),
    "per image": ("v = Equal (si, b1)", "n111", [[0, 1]]),
    "without channel": ("v = Squeeze (s2, a1)", "nhw", [[0, 1]]),
    "one-hot behind": (
        "q = Squeeze (s, a1) u = Unsqueeze (q, last) v = Equal (u, three)",
        "nhwc",
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ),
    "one-hot": (
        "q = Squeeze (s, a1) v = OneHot <axis = 1> (q, depth, levels)",
        "nchw",
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ),
    "sum of two channels": (
        "q = Squeeze (s, a1) o = OneHot <axis = 1> (q, depth, levels)"
        " c = Slice (o, a0, a2, a1) v = ReduceSum (c, a1)",
        "n1hw",
        [[1, 1, 0]],
    ),
    "two channels joined": (f"{ON} r = Sub (one, m) v = Concat <axis = 1> (r, m)", "nchw", None),
}


@pytest.mark.parametrize("case", TABLES)
def test_table(case):
    statements, roles, rows = TABLES[case]
    masks, value = masks_of(statements)
    table = masks.table(value)
    assert table.roles == roles
    assert {decision.origin for decision in table.decisions} == {Origin.GATE}
    assert table.rows.tolist() == (rows or [[1, 0], [0, 1]])


DERIVED = {
    "dilated": f"{ON} v = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m)",
    "dilated by a convolution": f"{ON} c = Conv <pads = [1, 1, 1, 1]> (m, box)"
    " v = Greater (c, half)",
    "product of two decisions": f"{ON} e = Equal (s, b0) f = Cast <to = 1> (e) v = Mul (m, f)",
    "pixel and image": f"{ON} e = Equal (si, b1) v = And (t, e)",
    "cut": f"{ON} v = Slice (m, a1, a2, a2)",
    "made wider by a constant": f"{ON} v = Greater (m, halves)",
    "padded": f"{ON} v = Pad (m, around)",
    "padded with ones, then dilated": f"{ON} q = Pad (m, around, one)"
    " v = MaxPool <kernel_shape = [3, 3]> (q)",
}


@pytest.mark.parametrize("case", DERIVED)
def test_mask_of_masks_is_a_decision_of_its_own(case):
    masks, value = masks_of(DERIVED[case])
    (decision,) = masks.pixel_mask(value).decisions
    assert (decision.origin, decision.value) == (Origin.DERIVED, value)
    assert {each.origin for each in masks.behind(decision)} == {Origin.GATE}


NONE = {
    "sum of two decisions": f"{ON} e = Equal (s, b0) f = Cast <to = 1> (e) v = Add (m, f)",
    "count": f"{ON} v = Conv <pads = [1, 1, 1, 1]> (m, box)",
    "mean": f"{ON} v = AveragePool <kernel_shape = [3, 3]> (m)",
    "blurred": f"{ON} z = Concat <axis = 0> (a1, a1, a2, a2) f = Cast <to = 1> (z)"
    ' v = Resize <mode = "linear"> (m, , f)',
    "with padding between": f"{ON} v = MaxPool <kernel_shape = [2, 2], dilations = [3, 3],"
    " pads = [1, 1, 1, 1]> (m)",
    "a feature": f"{ON} v = Mul (m, g)",
    "a soft gate": "v = Sigmoid (g)",
    "an input": "v = Identity (g)",
    "padded with halves": f"{ON} v = Pad (m, around, half)",
    "padded channels": f"{ON} v = Pad (m, deeper)",
    "repeated columns": f"{ON} v = Tile (m, more)",
    "turned": f"{ON} v = Transpose <perm = [0, 1, 3, 2]> (m)",
    "a batch as channels": f"{ON} v = Transpose <perm = [1, 0, 2, 3]> (m)",
}


@pytest.mark.parametrize("case", NONE)
def test_no_mask(case):
    masks, value = masks_of(NONE[case])
    assert masks.pixel_mask(value) is None


def test_channels_of_two_decisions():
    masks, value = masks_of("e = Equal (s2, b1) f = Greater (g, zero) v = Concat <axis = 1> (e, f)")
    table = masks.table(value)
    assert [decision.origin for decision in table.decisions] == [Origin.GATE, Origin.WRITTEN_OUT]
    assert masks.pixel_mask(value) is None
