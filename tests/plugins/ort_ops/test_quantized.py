"""The 8-bit convolutions, in real onnxruntime, bit by bit against its own operators."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagdeploy.ops.perforated_conv_reference import output_size
from tests.plugins.ort_ops.conftest import Arrays, Load, model, node

several = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclasses.dataclass(frozen=True)
class QuantizedCase:
    """One node's inputs, channels first, and attributes."""

    x: np.ndarray
    base: np.ndarray
    active: np.ndarray  # bool (N, 1, Ho, Wo)
    constants: Arrays
    attributes: dict[str, object]

    @property
    def pixels(self) -> np.ndarray:
        return np.flatnonzero(self.active).astype(np.int32)


def _last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


@st.composite
def quantized_cases(draw: st.DrawFn, *, mode: int) -> QuantizedCase:
    """Shapes, zero points at both ends, sums that saturate, and scales of any size."""
    c, m = draw(st.sampled_from([(1, 1), (3, 5), (8, 16), (13, 37), (64, 33), (32, 64)]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 5)]))
    dilations = draw(st.sampled_from([(1, 1), (2, 1), (4, 4)]))
    strides = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [draw(st.integers(0, r + 1)) for r in (*reach, *reach)]
    least = [max(1, r + 1 - pads[a] - pads[a + 2]) for a, r in enumerate(reach)]
    size = [draw(st.integers(smallest, smallest + 9)) for smallest in least]
    images = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    out = output_size(size, kernel, strides, pads, dilations)

    zeros = st.sampled_from([0, 1, 128, 255])
    steps = st.sampled_from([2.0**-7, 0.013, 0.5, 1.7, 40.0])
    per_channel = draw(st.booleans())
    # Where onnxruntime has no VNNI, it saturates in 16 bits beyond this.
    largest = draw(st.sampled_from([1, 8, 63]))
    w = rng.integers(-largest, largest + 1, (m, c, *kernel)).astype(np.int8)
    spread = np.sqrt(c * kernel[0] * kernel[1]) * largest * 73
    x_scale, w_scale = draw(steps), draw(steps)
    y_scale = np.float32(x_scale * w_scale * spread * draw(st.sampled_from([0.001, 0.02, 1.0])))
    constants = {
        "x_scale": np.array(x_scale, np.float32),
        "x_zero": np.array(draw(zeros), np.uint8),
        "w": w,
        "w_scale": (
            (w_scale * rng.uniform(0.5, 2, m)).astype(np.float32)
            if per_channel
            else np.array(w_scale, np.float32)
        ),
        "w_zero": np.zeros(m if per_channel else (), np.int8),
        "y_scale": np.array(y_scale),
        "y_zero": np.array(draw(zeros), np.uint8),
        "b": rng.integers(-50 * largest, 50 * largest + 1, m).astype(np.int32),
    }
    if mode == 0:
        constants |= {"base_scale": constants["y_scale"], "base_zero": constants["y_zero"]}
    else:
        scale = np.float32(y_scale * draw(st.sampled_from([0.3, 1.0])))
        constants |= {"base_scale": np.array(scale), "base_zero": np.array(draw(zeros), np.uint8)}
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    base = (1, 1, 1, 1) if draw(st.booleans()) else (images, m, *out)
    return QuantizedCase(
        rng.integers(0, 256, (images, c, *size)).astype(np.uint8),
        rng.integers(0, 256, base).astype(np.uint8),
        rng.random((images, 1, *out)) < density,
        constants,
        {
            "kernel_shape": list(kernel), "strides": list(strides), "pads": pads,
            "dilations": list(dilations), "group": 1, "mode": mode,
            "activation": draw(st.integers(0, 1)),
        },
    )  # fmt: skip


BEFORE_Y = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero"]
ABOUT_Y = ["y_scale", "y_zero"]
BEHIND_Y = ["b", "base", "base_scale", "base_zero", "pixels"]
GEOMETRY = ("kernel_shape", "strides", "pads", "dilations")


def _found(load: Load, case: QuantizedCase, kind: type, dynamic: bool) -> np.ndarray:
    """What the op gives, channels first."""
    inputs = {"x": _last(case.x), "base": _last(case.base), "pixels": case.pixels}
    narrow = kind is np.uint8
    op = "QLinearPerforatedConvNhwc" if narrow else "QLinearPerforatedConvNhwcFloat"
    names = [*BEFORE_Y, *(ABOUT_Y if narrow else []), *BEHIND_Y]
    built = model(
        [node(op, names, ["y"], **case.attributes)],
        inputs,
        {"y": kind},
        case.constants,
        dynamic=dynamic,
    )
    return load(built).run(None, inputs)[0].transpose(0, 3, 1, 2)


def _run(nodes: list, inputs: Arrays, constants: Arrays, kind: type) -> np.ndarray:
    """What onnxruntime's own operators give, as they are written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model(nodes, inputs, {"y": kind}, constants).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return session.run(None, inputs)[0]


def _quantize(values: np.ndarray, case: QuantizedCase) -> np.ndarray:
    quantize = node("QuantizeLinear", ["v", "y_scale", "y_zero"], ["y"])
    return _run([quantize], {"v": values}, case.constants, np.uint8)


def _sums(case: QuantizedCase) -> np.ndarray:
    """float32 (N, M, Ho, Wo): the exact sums times their step, rounded once each."""
    constants = case.constants
    convolve = node(
        "ConvInteger",
        ["x", "w", "x_zero"],
        ["y"],
        **{name: case.attributes[name] for name in (*GEOMETRY, "group")},
    )
    sums = _run([convolve], {"x": case.x}, constants, np.int32)
    sums = sums + constants["b"].reshape(1, -1, 1, 1)
    steps = (constants["x_scale"] * constants["w_scale"]).astype(np.float32)
    return sums.astype(np.float32) * steps.reshape(1, -1, 1, 1)


@several
@given(case=quantized_cases(mode=0), dynamic=st.booleans())
def test_replacing_is_onnxruntimes_own_convolution(
    load: Load, case: QuantizedCase, dynamic: bool
) -> None:
    attributes = {name: case.attributes[name] for name in (*GEOMETRY, "group")}
    convolve = node("QLinearConv", [*BEFORE_Y, *ABOUT_Y, "b"], ["y"], **attributes)
    wanted = _run([convolve], {"x": case.x}, case.constants, np.uint8)
    if case.attributes["activation"]:
        wanted = np.maximum(wanted, case.constants["y_zero"])  # zero is where a ReLU ends
    wanted = np.where(case.active, wanted, case.base)
    np.testing.assert_array_equal(_found(load, case, np.uint8, dynamic), wanted)


@several
@given(case=quantized_cases(mode=1), dynamic=st.booleans())
def test_adding_is_what_the_quantized_model_says(
    load: Load, case: QuantizedCase, dynamic: bool
) -> None:
    wide = _shortcut(case) + np.where(case.active, _sums(case), np.float32(0))
    if case.attributes["activation"]:
        wide = np.maximum(wide, np.float32(0))
    np.testing.assert_array_equal(_found(load, case, np.float32, dynamic), wide)
    np.testing.assert_array_equal(_found(load, case, np.uint8, dynamic), _quantize(wide, case))


@settings(several, max_examples=30)
@given(case=quantized_cases(mode=0))
def test_floats_are_the_sums_in_their_steps(load: Load, case: QuantizedCase) -> None:
    wide = _sums(case)
    if case.attributes["activation"]:
        wide = np.maximum(wide, np.float32(0))
    wanted = np.where(case.active, wide, _shortcut(case))
    np.testing.assert_array_equal(_found(load, case, np.float32, True), wanted)


def _shortcut(case: QuantizedCase) -> np.ndarray:
    """float32: what the base means."""
    constants = case.constants
    steps = case.base.astype(np.int32) - constants["base_zero"].astype(np.int32)
    return steps.astype(np.float32) * constants["base_scale"]


CONSTANTS = {
    "x_scale": np.array(0.5, np.float32), "x_zero": np.array(3, np.uint8),
    "w": np.ones((2, 4, 1, 1), np.int8), "w_scale": np.array(1, np.float32),
    "w_zero": np.array(0, np.int8), "y_scale": np.array(1, np.float32),
    "y_zero": np.array(0, np.uint8), "b": np.zeros(2, np.int32),
    "base_scale": np.array(1, np.float32), "base_zero": np.array(0, np.uint8),
}  # fmt: skip
ATTRIBUTES = {
    "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1,
    "mode": 0, "activation": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("constants", "attributes", "sentence"),
    [
        ({"w_zero": np.array(1, np.int8)}, {}, "w_zero_point must be 0"),
        ({"w_zero": np.array([0, 2], np.int8)}, {}, "w_zero_point must be 0"),
        ({"w_scale": np.ones(3, np.float32)}, {}, "one for each output channel"),
        ({"x_scale": np.array(0, np.float32)}, {}, "x_scale is 0.0"),
        ({"x_scale": np.array(np.nan, np.float32)}, {}, "x_scale is nan"),
        ({"y_scale": np.array([1, 2], np.float32)}, {}, "must be one value"),
        ({"base_scale": np.array(2, np.float32)}, {}, "base must have the scale"),
        ({"b": np.full(2, 2**31 - 1, np.int32)}, {}, "may leave 32 bits"),
        ({}, {"group": 2}, "'group' is 2 and must be 1"),
        ({}, {"activation": 2}, "'activation' is 2"),
        ({}, {"inactive": 1}, "'inactive' is 1 and must be 0 or 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(
    load: Load, constants: Arrays, attributes: dict[str, int], sentence: str
) -> None:
    inputs = {
        "x": np.zeros((1, 3, 3, 4), np.uint8),
        "base": np.zeros((1, 1, 1, 1), np.uint8),
        "pixels": np.zeros(0, np.int32),
    }
    names = [*BEFORE_Y, *ABOUT_Y, *BEHIND_Y]
    built = model(
        [node("QLinearPerforatedConvNhwc", names, ["y"], **ATTRIBUTES | attributes)],
        inputs,
        {"y": np.uint8},
        CONSTANTS | constants,
    )
    with pytest.raises(Exception, match=sentence):
        load(built)


def test_scales_must_be_constant(load: Load) -> None:
    inputs = {
        "x": np.zeros((1, 3, 3, 4), np.uint8),
        "base": np.zeros((1, 1, 1, 1), np.uint8),
        "pixels": np.zeros(0, np.int32),
        "x_scale": CONSTANTS["x_scale"],
    }
    built = model(
        [node("QLinearPerforatedConvNhwc", [*BEFORE_Y, *ABOUT_Y, *BEHIND_Y], ["y"], **ATTRIBUTES)],
        inputs,
        {"y": np.uint8},
        {name: array for name, array in CONSTANTS.items() if name not in inputs},
    )
    with pytest.raises(Exception, match="x_scale must be constant"):
        load(built)
