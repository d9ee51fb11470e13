"""Multiply-adds are counted as one does by hand."""

from __future__ import annotations

import onnx.parser

from pagdeploy.graph.cost import Cost, count_cost

MODEL = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
g (float[n, 4, h, w] x, int32[n, 1, h, w] s) => (float[n, 6, h, w] y, float[n, 3, p, q] z)
<float[6, 2, 3, 3] w, float[6] b, float[1, 1, 1, 1] base = {0}, float[3, 4, 1, 1] v>
{
    y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1],
        dilations = [1, 1], group = 2, branch = 1, mode = 0, activation = 1, alpha = 0.0>
        (x, s, w, b, base)
    z = Conv <strides = [2, 2]> (x, v)
    t = Relu (z)
}"""


def model():
    """One grouped perforated convolution and one plain convolution of stride 2."""
    text = MODEL.replace("float[6, 2, 3, 3] w, float[6] b, ", "").replace(
        ", float[3, 4, 1, 1] v", ""
    )
    parsed = onnx.parser.parse_model(text)
    for name, dims in {"w": [6, 2, 3, 3], "b": [6], "v": [3, 4, 1, 1]}.items():
        parsed.graph.initializer.append(
            onnx.helper.make_tensor(name, 1, dims, [0.0] * int(onnx.numpy_helper.np.prod(dims)))
        )
    return parsed


PERFORATED = 2 * 6 * 10 * 8 * (2 * 9)  # N Co H W (C / group) kh kw
PLAIN = 2 * 3 * 5 * 4 * 4


def test_convolutions_are_counted_by_hand():
    shapes = {"x": [2, 4, 10, 8], "s": [2, 1, 10, 8]}
    cost = count_cost(model(), shapes, {"s": [0.75, 0.25]})
    assert cost == Cost(PERFORATED + PLAIN, 0.25 * PERFORATED + PLAIN)
    assert cost.ceiling == cost.dense / cost.sparse > 2


def test_without_densities_every_pixel_counts():
    shapes = {"x": [2, 4, 10, 8], "s": [2, 1, 10, 8]}
    cost = count_cost(model(), shapes, {})
    assert cost.sparse == cost.dense == PERFORATED + PLAIN
    assert cost.ceiling == 1.0


def test_matrix_products_are_counted():
    product = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 5] x, float[5, 7] m) '
        "=> (float[n, 7] y) { y = MatMul (x, m) }"
    )
    assert count_cost(product, {"x": [3, 5]}, {}).dense == 3 * 5 * 7


def test_a_model_that_multiplies_nothing_costs_nothing():
    plain = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) { y = Relu (x) }'
    )
    assert count_cost(plain, {"x": [3]}, {}) == Cost(0.0, 0.0)
    assert Cost(0.0, 0.0).ceiling == 1.0
