"""A selection that is smaller than the map, or of a wrong size, is never read wrongly."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
sizes (float[n, 1, %s] x, int32[%s] s) => (float[n, 1, p, q] y)
<float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[1] b = {1}, float[1, 1, 1, 1] zero = {-7}>
{
    y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [%d, %d], pads = [1, 1, 1, 1],
        dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 0, alpha = 0.0>
        (x, s, w, b, zero)
}
"""


def both(x_dims: str, s_dims: str, s_shape: tuple[int, ...], stride: int = 1) -> list[np.ndarray]:
    """What the portable and the gathered model answer for two images of 5x9."""
    portable = onnx.parser.parse_model(TEXT % (x_dims, s_dims, stride, stride))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1, 5, 9), np.float32)
    selection = rng.integers(0, 2, s_shape, np.int32)
    answers = []
    for model in (attach_bodies(portable), lower(portable, "gather")):
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        answers += session.run(None, {"x": x, "s": selection})
    return answers


@pytest.mark.parametrize("x_dims", ["h, w", "5, 9"])
@pytest.mark.parametrize(
    ("s_dims", "s_shape"),
    [
        ("1, 1, h, w", (1, 1, 5, 9)),  # one mask for the whole batch
        ("m, 1, h, w", (1, 1, 5, 9)),
        ("n, 1, 1, 1", (2, 1, 1, 1)),
        ("1, 1, 1, 1", (1, 1, 1, 1)),
        ("n, 1, 5, 9", (2, 1, 5, 9)),
        ("n, 1, i, j", (2, 1, 1, 9)),
    ],
)
def test_smaller_selections_broadcast_as_in_the_portable_model(x_dims, s_dims, s_shape):
    expected, actual = both(x_dims, s_dims, s_shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("s_dims", "shape"), [("n, 1, 1, 9", (1, 9)), ("n, 1, 5, 1", (5, 1))])
def test_rows_and_columns_broadcast_too_where_nobody_can_know_their_size(s_dims, shape):
    expected, actual = both("h, w", s_dims, (2, 1, *shape))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_selection_of_an_image_strides_with_the_output():
    expected, actual = both("5, 9", "n, 1, 3, 5", (2, 1, 3, 5), stride=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("x_dims", "s_dims"), [("h, w", "n, 1, 4, 9"), ("h, w", "n, 1, i, j")])
def test_a_selection_of_a_wrong_size_is_an_error_not_numbers(x_dims, s_dims):
    with pytest.raises(Exception, match=r"(?i)expand|reshape|broadcast|where|incompatible"):
        both(x_dims, s_dims, (2, 1, 4, 9))
