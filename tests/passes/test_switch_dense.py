"""The switch: which side a frame takes, that both say the same, and where there is none."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pagdeploy.graph.choice import Choice
from pagdeploy.graph.read import graphs_of
from pagdeploy.passes import switch_dense
from tests.compare import assert_close
from tests.models import run_onnxruntime
from tests.passes.blocks import (
    PASSES,
    between_layouts,
    bottleneck,
    choosing,
    expected,
    lowered,
    operators,
)
from tests.passes.test_gathering import feed_of, pool


def side_of(model: onnx.ModelProto, feed) -> str:
    """Which branch of the outermost If a frame takes: its outputs are shown one by one."""
    (switch,) = [node for node in model.graph.node if node.op_type == "If"]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.add(name=switch.input[0])
    return "dense" if run_onnxruntime(probe, feed)[0] else "gather"


@pytest.mark.parametrize(
    ("threshold", "share", "side"),
    [
        (0.5, 0.49, "gather"),
        (0.5, 0.5, "dense"),
        (0.5, 1.0, "dense"),
        (1.0, 0.99, "gather"),
        (1.0, 1.0, "dense"),
        (0.0, 0.0, "dense"),
    ],
)
def test_the_threshold_divides_the_frames(threshold, share, side):
    model = choosing(bottleneck(), Choice("auto", threshold))
    feed = feed_of("empty", (1, 10, 10))
    feed["s"].reshape(-1)[: round(100 * share)] = 1
    result = lowered(model)
    assert side_of(result, feed) == side
    assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5, feed["s"])


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_where_all_pixels_are_active_no_where_runs(threshold):
    """A NaN at a pixel of the base that a Where would read is not read at all."""
    model = choosing(bottleneck(mode=0), Choice("auto", threshold))
    feed = feed_of("full")
    y = run_onnxruntime(lowered(model), feed)[0]
    assert_close(y, expected(model, feed), 1e-5)
    assert operators(lowered(model)).count("Where") == (threshold < 1)


def test_a_threshold_above_one_leaves_no_switch():
    ops = operators(lowered(choosing(pool((1,)), Choice("auto", 2.0))))
    assert "If" not in ops and "Where" not in ops


@pytest.mark.parametrize("why", ["16 bits", "one of its branches", "a branch already"])
def test_no_switch_says_why(why, caplog):
    if why == "16 bits":
        model = bottleneck(dtype="float16")
    else:
        model = pool((1, 2) if why.startswith("one") else (1,))
    passes = PASSES
    if why == "a branch already":
        passes = (*PASSES[:2], switch_dense, *PASSES[2:])
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        ops = operators(lowered(model, passes))
    assert why in caplog.text
    assert ops.count("Gemm") > 0


@pytest.mark.parametrize("form", ["gather", "gather-add", "auto"])
def test_weights_are_kept_twice_and_those_of_the_last_convolution_three_times(form):
    model = bottleneck(channels=64, inner=32)
    size = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    result = lowered(choosing(model, Choice(form, 0.5)))
    kept = sum(
        numpy_helper.to_array(tensor).nbytes
        for graph in graphs_of(result)
        for tensor in graph.initializer
    )
    last = 4 * 64 * 32
    assert kept < 2.1 * size + last


def test_convolutions_read_weights_of_their_own_graph():
    """Elsewhere onnxruntime would not lay them out for its fast convolution."""
    result = lowered(choosing(bottleneck(), Choice("auto", 0.5)))
    count = 0
    for branch in graphs_of(result)[1:]:
        own = {tensor.name for tensor in branch.initializer}
        convs = [node for node in branch.node if node.op_type == "Conv" and len(node.input) == 3]
        assert all(set(node.input[1:]) <= own for node in convs)
        count += len(convs)
    assert count == 3 + 1, "three, and the last once more with a Where"


@pytest.mark.parametrize("sizes", [("n", "h", "w"), (1, 56, 56)])
def test_built_in_limits_lie_between_a_third_and_nine_tenths(sizes):
    small, large = (bottleneck(channels=c, inner=c, mode=0, shape=sizes) for c in (4, 256))
    limits = []
    for model in (small, large):
        del model.graph.node[4:]  # the 3x3 alone
        model.graph.output[0].name = "a2"
        result = lowered(model)
        limits += [
            float(numpy_helper.to_array(t))
            for t in result.graph.initializer
            if not t.dims and t.data_type == 1
        ]
    assert limits[0] == pytest.approx(0.3) and 0.6 < limits[1] <= 0.9


@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_a_selection_of_a_wrong_size_is_an_error_even_where_all_is_active(threshold):
    model = choosing(bottleneck(shape=("n", None, None)), Choice("auto", threshold))
    feed = feed_of("full")
    feed["s"] = feed["s"][:, :, :-1]
    with pytest.raises(Exception, match=r"(?i)expand|reshape|broadcast|where|incompatible"):
        run_onnxruntime(lowered(model), feed)


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_images_that_are_all_active_are_dense(threshold):
    model = choosing(bottleneck(per_image=True), Choice("auto", threshold))
    feed = feed_of("full")
    for decisions, side in (([1, 1], "dense"), ([0, 0], "gather")):
        feed["s"] = np.array(decisions, np.int32).reshape(2, 1, 1, 1)
        assert side_of(lowered(model), feed) == side
        assert_close(run_onnxruntime(lowered(model), feed)[0], expected(model, feed), 1e-5)


@pytest.mark.parametrize(
    ("size", "is_small"), [((7, 7), True), ((56, 56), False), (("h", "w"), False)]
)
@pytest.mark.parametrize("around", ["Relu", None])
def test_between_changes_of_layout_only_small_maps_are_dense_before_all_is_active(
    around, size, is_small
):
    """Those that lie in the cache: of all others, the dense side would move every value twice."""
    model = between_layouts(bottleneck(channels=128, shape=(1, *size)), around)
    result = lowered(model)
    limits = [numpy_helper.to_array(t) for t in result.graph.initializer if t.data_type == 1]
    assert (0.65 in [round(float(value), 6) for value in limits if value.ndim == 0]) == is_small
    assert "If" in [node.op_type for node in result.graph.node]
