"""PerforatedConv: the function body computes what the numpy reference says, in every runtime."""

from __future__ import annotations

import re

import numpy as np
import onnx.inliner
import pytest
from onnx.reference import ReferenceEvaluator

from pagdeploy.errors import UsageError
from pagdeploy.ops import PERFORATED_CONV, Activation, Mode
from pagdeploy.ops.perforated_conv_reference import perforated_conv, require_branch
from tests.compare import assert_close
from tests.models import Conv, conv_model, run_onnxruntime

GEOMETRIES = {
    "3x3": Conv(),
    "1x1": Conv(kernel_shape=(1, 1), pads=(0, 0, 0, 0)),
    "5x3": Conv(kernel_shape=(5, 3), pads=(2, 1, 2, 1)),
    "stride 2": Conv(strides=(2, 2)),
    "stride (2, 1), 5x3": Conv(kernel_shape=(5, 3), strides=(2, 1), pads=(2, 1, 2, 1)),
    "groups": Conv(group=2),
    "depthwise": Conv(channels=4, filters=8, group=4),
    "dilation 10": Conv(dilations=(10, 10), pads=(10, 10, 10, 10), group=2),
    "dilation (2, 1), groups": Conv(dilations=(2, 1), pads=(0, 1, 2, 1), strides=(2, 2), group=2),
    "asymmetric pads": Conv(pads=(0, 2, 3, 1)),
    "even size": Conv(n=1, size=(6, 4)),
    "one pixel map": Conv(n=1, size=(1, 1)),
}


def every_runtime(model, feed):
    """Name and Y of each way to run a portable model."""
    inlined = onnx.inliner.inline_local_functions(model)
    assert not any(node.domain for node in inlined.graph.node), "the inliner left a call in place"
    yield "onnxruntime", run_onnxruntime(model, feed)[0]
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are legal values
        yield "onnx.reference", ReferenceEvaluator(model).run(None, feed)[0]
    yield "onnxruntime, inlined", run_onnxruntime(inlined, feed)[0]


def check(conv, operands, selection, dtype, **choice):
    """The body agrees with the reference; returns what the reference says."""
    feed = {**operands, "selection": selection}
    attributes = {**conv.attributes, **choice}
    expected = perforated_conv(**feed, **attributes)
    model = conv_model(dtype, zero_base=operands["base"].size == 1, **attributes)
    for runtime, actual in every_runtime(model, feed):
        try:
            assert_close(actual, expected, PERFORATED_CONV.bounds[dtype], selection)
        except AssertionError as error:
            raise AssertionError(f"{runtime}: {error}") from error
    return expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_body_equals_reference(geometry, activation, mode, dtype):
    conv = GEOMETRIES[geometry]
    row = list(GEOMETRIES).index(geometry)
    rng = np.random.default_rng(row)
    # The remaining choices take turns, so that every pair of them occurs.
    zero_bias, zero_base, branch = row % 2 == 0, (row + activation) % 2 == 0, row % 3
    operands = conv.operands(rng, dtype, zero_bias=zero_bias, zero_base=zero_base)
    selection = conv.selection(rng, branches=3)
    check(
        conv,
        operands,
        selection,
        dtype,
        branch=branch,
        mode=int(mode),
        activation=int(activation),
        alpha=0.125,
    )


@pytest.mark.parametrize("zero_base", [False, True])
@pytest.mark.parametrize("zero_bias", [False, True])
@pytest.mark.parametrize("branch", [0, 1, 2, 15])
def test_branches_bias_and_base(branch, zero_bias, zero_base):
    conv = Conv()
    rng = np.random.default_rng(branch)
    operands = conv.operands(rng, zero_bias=zero_bias, zero_base=zero_base)
    selection = conv.selection(rng, branches=16)
    selection[0, 0, 0, :2] = branch
    check(conv, operands, selection, "float32", branch=branch, activation=int(Activation.RELU))


def mask(conv, pattern):
    selection = np.zeros((conv.n, 1, *conv.out), np.int32)
    if pattern == "full":
        selection[:] = 1
    elif pattern == "one pixel":
        selection[0, 0, conv.out[0] // 2, conv.out[1] // 2] = 1
    elif pattern == "border pixel":
        selection[-1, 0, -1, -1] = 1
    elif pattern == "per image":
        selection = np.arange(conv.n, dtype=np.int32).reshape(-1, 1, 1, 1) % 2
    else:
        assert pattern == "empty"
    return selection


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("geometry", ["3x3", "dilation 10", "stride 2"])
@pytest.mark.parametrize("pattern", ["empty", "full", "one pixel", "border pixel", "per image"])
def test_masks(pattern, geometry, mode):
    conv = GEOMETRIES[geometry]
    operands = conv.operands(np.random.default_rng(0))
    selection = mask(conv, pattern)
    choice = {"mode": int(mode), "activation": int(Activation.RELU)}
    y = check(conv, operands, selection, "float32", **choice)
    base = operands["base"]
    untouched = base if mode == Mode.REPLACE else np.maximum(base, 0)
    active = np.broadcast_to(selection == 1, y.shape)
    np.testing.assert_array_equal(y[~active], untouched[~active])
    if pattern != "empty":
        assert not np.array_equal(y[active], untouched[active])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_all_ones_mask_is_the_dense_convolution(geometry):
    conv = GEOMETRIES[geometry]
    operands = conv.operands(np.random.default_rng(1), zero_base=True)
    selection = np.ones((conv.n, 1, *conv.out), np.int32)
    node = onnx.helper.make_node("Conv", ["X", "W", "B"], ["Y"], **conv.attributes)
    feed = {name: operands[name] for name in ("X", "W", "B")}
    graph = conv_model(**conv.attributes).graph
    inputs = [value for value in graph.input if value.name in feed]
    dense = onnx.helper.make_model(
        onnx.helper.make_graph([node], "dense", inputs, graph.output),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    expected = run_onnxruntime(dense, feed)[0]
    for mode in Mode:
        actual = perforated_conv(**operands, selection=selection, **conv.attributes, mode=mode)
        assert_close(actual, expected, PERFORATED_CONV.bounds["float32"], selection)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("mode", Mode)
def test_bad_values_at_unused_pixels_stay_unseen(mode, activation, bad):
    conv = Conv(n=1, size=(5, 9))
    operands = conv.operands(np.random.default_rng(2))
    selection = np.zeros((1, 1, 5, 9), np.int32)
    selection[..., :3] = 1
    operands["X"][..., 6:] = bad  # no active pixel's kernel reaches beyond column 3
    if mode == Mode.REPLACE:
        operands["base"][..., :3] = bad
    choice = {"mode": int(mode), "activation": int(activation), "alpha": 0.0}
    y = check(conv, operands, selection, "float32", **choice)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("mode", Mode)
def test_bad_values_at_used_pixels_are_seen(mode, activation):
    conv = Conv(n=1)
    operands = conv.operands(np.random.default_rng(3))
    operands["X"][0, :, 3, 4] = np.nan
    operands["base"][0, :, 0, 0] = np.nan
    selection = np.zeros((1, 1, *conv.out), np.int32)
    selection[..., 3, 4] = 1
    y = check(conv, operands, selection, "float32", mode=int(mode), activation=int(activation))
    assert np.isnan(y[..., 3, 4]).all()
    assert np.isnan(y[..., 0, 0]).all()


def test_infinite_sums_keep_their_sign():
    conv = Conv(n=1, filters=2, kernel_shape=(1, 1), pads=(0, 0, 0, 0))
    operands = conv.operands(np.random.default_rng(4))
    operands["base"][:, 0], operands["base"][:, 1] = np.inf, -np.inf
    selection = np.ones((1, 1, *conv.out), np.int32)
    for activation, low in ((Activation.NONE, -np.inf), (Activation.LEAKY_RELU, -np.inf)):
        choice = {"mode": int(Mode.ADD), "activation": int(activation)}
        y = check(conv, operands, selection, "float32", **choice)
        assert (y[:, 0] == np.inf).all()
        assert (y[:, 1] == low).all()


OPERANDS = {**Conv().operands(np.random.default_rng(5)), "selection": mask(Conv(), "full")}
ATTRIBUTES = Conv().attributes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"selection": np.ones((2, 1, 7, 9), np.int64)},
            "The selection of PerforatedConv is int64",
        ),
        ({"selection": np.ones((2, 1, 7, 9), bool)}, "is bool, not int32. Take it from a PAGGate"),
        ({"selection": np.ones((2, 1, 14, 18), np.int32)}, "is 14x18, but its output is 7x9."),
        ({"selection": np.ones((2, 1, 1, 9), np.int32)}, "is 1x9, but its output is 7x9."),
        (
            {"selection": np.ones((2, 7, 9), np.int32)},
            "The selection of PerforatedConv has the rank",
        ),
        ({"selection": np.ones((1, 1, 7, 9), np.int32)}, "which does not begin with (2, 1)"),
        ({"selection": np.ones((2, 6, 7, 9), np.int32)}, "one channel for each of the 2 images"),
        ({"branch": -1}, "The branch of a PerforatedConv is -1; branches are counted from 0."),
        ({"X": np.ones((4, 7, 9))}, "The input X of PerforatedConv has the rank 3, not 4."),
        ({"W": np.ones((6, 4, 3))}, "The input W of PerforatedConv has the rank 3, not 4."),
        ({"B": np.ones((1,))}, "The bias of PerforatedConv has the shape (1,), not (6,)."),
        (
            {"base": np.ones((2, 6, 7, 8))},
            "has the shape (2, 6, 7, 8), but its output is (2, 6, 7, 9)",
        ),
        ({"base": np.ones((6,))}, "Give a base of the output's shape, or (1, 1, 1, 1)"),
        ({"base": np.ones((1, 6, 1, 1))}, "The base of PerforatedConv has the shape (1, 6, 1, 1)"),
        ({"group": 3}, "in 3 groups do not fit an input of 4 channels"),
        ({"kernel_shape": (1, 1)}, "kernel_shape is [1, 1], but W is (6, 4, 3, 3)"),
        ({"pads": (0, 0, 0, 0), "dilations": (9, 9)}, "that reaches over 19 pixels does not fit"),
        ({"strides": (0, 1)}, "strides of PerforatedConv is [0, 1]. Give 2 integers of at least 1"),
        ({"pads": (1, 1)}, "pads of PerforatedConv is [1, 1]. Give 4 integers of at least 0"),
        ({"mode": 2}, "mode of PerforatedConv is 2. Give one of 0 (replace), 1 (add)."),
        ({"activation": 9}, "activation of PerforatedConv is 9. Give one of 0 (none), 1 (relu)"),
    ],
)
def test_impossible_requests_are_refused(change, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        perforated_conv(**{**OPERANDS, **ATTRIBUTES, **change})


def test_branch_must_exist():
    require_branch(2, 3)
    with pytest.raises(UsageError, match=re.escape("has 3 channels: the branches are 0..2.")):
        require_branch(3, 3)
