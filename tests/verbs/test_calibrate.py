"""The range probe sees what float16 cannot hold, and names what mends it."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from pagdeploy.errors import UsageError
from pagdeploy.precision import Precision
from pagdeploy.verbs.calibrate import calibrate, precision_warnings
from pagdeploy.verbs.verify import verify
from tests.conftest import gated_model

# The scales of the convolutions cancel, but between them a value reaches 1e5 or so.
SPIKE = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
spike (float[n, 1, h, w] image) => (float[n, 1, h, w] y)
<float[1, 1, 1, 1] up = {200}, float[1, 1, 1, 1] over = {500}, float[1, 1, 1, 1] down = {0.0001}>
{
    a = Conv (image, up)
    b = Conv (a, over)
    c = Relu (b)
    d = Conv (c, down)
    e = Conv (d, up)
    y = Neg (e)
}"""
IMAGE = np.random.default_rng(0).random((2, 1, 6, 7), np.float32)


def spike() -> onnx.ModelProto:
    """The model, its nodes named after their outputs."""
    model = onnx.parser.parse_model(SPIKE)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def test_every_value_is_measured_in_the_folded_model():
    model = gated_model()
    image = np.random.default_rng(1).random((3, 3, 9, 11)).astype(np.float32)
    seen = calibrate(model, {"image": image})
    assert set(seen) == {"image", "x", "l1", "a", "scores", "l2", "y"}
    assert (seen["image"].low, seen["image"].high) == (image.min(), image.max())
    assert all(value.low <= value.high and value.clip > 0 for value in seen.values())


def test_images_of_a_stack_are_run_one_by_one():
    stacked = calibrate(spike(), {"image": IMAGE})
    single = [calibrate(spike(), {"image": image[None]}) for image in IMAGE]
    for name, seen in stacked.items():
        assert seen.low == min(each[name].low for each in single)
        assert seen.high == max(each[name].high for each in single)
    steps: list[str] = []
    calibrate(spike(), {"image": IMAGE}, progress=lambda step, number, total: steps.append(step))
    assert steps == ["measure ranges"]


def test_wrong_calibration_data_is_refused():
    with pytest.raises(UsageError, match="The input 'image' is float64"):
        calibrate(spike(), {"image": IMAGE.astype(np.float64)})
    with pytest.raises(UsageError, match="no input named 'photo'"):
        calibrate(spike(), {"photo": IMAGE})


def test_a_planted_overflow_is_found_and_the_advice_mends_it(tmp_path):
    (tmp_path / "m.onnx").write_bytes(spike().SerializeToString())
    seen = calibrate(spike(), {"image": IMAGE})
    assert 5e4 < seen["b"].high < 1.01e5
    warnings = precision_warnings(spike(), seen, Precision("fp16"))
    assert [(w.value, w.kind) for w in warnings] == [("b", "overflow"), ("c", "overflow")]
    assert [w.nodes for w in warnings] == [("b", "c"), ("c", "d")]

    broken = verify(tmp_path / "m.onnx", inputs={"image": IMAGE}, precision="fp16")
    assert broken.reason is not None and "Output 'y' differs by inf" in broken.reason
    assert broken.warnings == [w.message for w in warnings]

    advised = [str(re.search("--keep-fp32 '(.*)'", w.message)[1]) for w in warnings]  # type: ignore[index]
    mended = verify(
        tmp_path / "m.onnx", inputs={"image": IMAGE}, precision="fp16", keep_fp32=advised
    )
    assert mended.passed, mended.reason
    assert mended.warnings == []


def test_other_precisions_hold_the_range_of_float32(tmp_path):
    (tmp_path / "m.onnx").write_bytes(spike().SerializeToString())
    result = verify(tmp_path / "m.onnx", inputs={"image": IMAGE}, precision="bf16")
    assert result.passed, result.reason
    seen = calibrate(spike(), {"image": IMAGE})
    for precision in (Precision("bf16"), Precision("tf32")):
        assert precision_warnings(spike(), seen, precision) == []


def test_what_stays_float32_is_not_warned_of():
    tamed = "m = ReduceMean <axes = [1]> (b) c = Log (m)"
    model = onnx.parser.parse_model(SPIKE.replace("c = Relu (b)", tamed))
    for node in model.graph.node:
        node.name = node.output[0]
    seen = calibrate(model, {"image": IMAGE})
    assert seen["m"].high == seen["b"].high > 65504
    for keep, warned in (((), ["b"]), (("^b$",), [])):
        warnings = precision_warnings(model, seen, Precision("fp16", keep))
        assert [w.value for w in warnings if w.kind == "overflow"] == warned


def test_a_value_that_is_called_like_the_half_of_another_is_warned_of():
    model = spike()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["image.half" if name == "b" else name for name in names]
    warnings = precision_warnings(model, calibrate(model, {"image": IMAGE}), Precision("fp16"))
    assert [w.value for w in warnings if w.kind == "overflow"] == ["image.half", "c"]


def test_faint_values_are_warned_of():
    model = spike()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "up")
    weight.CopyFrom(numpy_helper.from_array(np.full((1, 1, 1, 1), 1e-5, "f4"), "up"))
    warnings = precision_warnings(model, calibrate(model, {"image": IMAGE}), Precision("fp16"))
    assert {w.kind for w in warnings} == {"underflow"}
    assert "a" in {w.value for w in warnings}
