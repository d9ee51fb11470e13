"""Convolutions read at constant pixels only: found, computed there, and nothing changes."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.graph.choice import Choice, choose
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of, perforated, recognised

RNG = np.random.default_rng(3)
H, W, C = 12, 10, 32
INDEX = RNG.choice(RNG.choice(H * W, 40, replace=False), H * W)
MASK = np.isin(np.arange(H * W), INDEX).reshape(1, 1, H, W)


def network(steps, constants, *, batch=1, before=(), size=(H, W)):
    """A 3x3 convolution c of x, and what reads it; whole numbers, so that order is no matter."""
    weights = {
        "w": RNG.integers(-2, 3, (C, C, 3, 3)).astype(np.float32),
        "b": RNG.integers(-2, 3, C).astype(np.float32),
        **constants,
    }
    conv = helper.make_node("Conv", [before[-1].output[0] if before else "x", "w", "b"], ["c"],
                            pads=[1, 1, 1, 1], kernel_shape=[3, 3], name="conv")  # fmt: skip
    nodes = [*before, conv, *steps]
    graph = helper.make_graph(
        nodes,
        "static",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, C, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    onnx.checker.check_model(inferred)
    return inferred


def assert_equal(model, *others, batch=1, size=(H, W)):
    x = RNG.integers(-3, 4, (batch, C, *size)).astype(np.float32)
    (wanted,) = run_onnxruntime(model, {"x": x})
    for other in others:
        np.testing.assert_array_equal(run_onnxruntime(other, {"x": x})[0], wanted)


def op(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs, [output], **attributes)


ROWS, COLUMNS = INDEX // W, INDEX % W
PAIRS = np.stack([ROWS, COLUMNS], -1)
KEPT = np.unique(INDEX)
READS = {
    "a Gather of the flattened map": (
        [op("Reshape", ["c", "flat"], "f"), op("Gather", ["f", "i"], "g", axis=2),
         op("Reshape", ["g", "full"], "r"), op("Relu", ["r"], "y")],
        {"flat": [0, C, H * W], "i": INDEX, "full": [-1, C, H, W]},
    ),
    "an activation before": (
        [op("Relu", ["c"], "a"), op("Flatten", ["a"], "f", axis=2),
         op("Gather", ["f", "i"], "y", axis=1)],
        {"i": INDEX},
    ),
    "an activation between": (
        [op("Reshape", ["c", "flat"], "f"), op("Relu", ["f"], "a"),
         op("Gather", ["a", "i"], "y", axis=2)],
        {"flat": [0, C, H * W], "i": INDEX - H * W},
    ),
    "an index that is taken by another one": (
        [op("Unsqueeze", ["nearest", "one"], "u"), op("GatherND", ["kept", "u"], "t"),
         op("Reshape", ["t", "minus"], "i"), op("Reshape", ["c", "flat"], "f"),
         op("Gather", ["f", "i"], "y", axis=2)],
        {"flat": [0, C, H * W], "kept": KEPT, "nearest": np.searchsorted(KEPT, INDEX),
         "one": [1], "minus": [-1]},
    ),
    "GatherElements": (
        [op("Reshape", ["c", "flat"], "f"), op("GatherElements", ["f", "i"], "y", axis=2)],
        {"flat": [0, C, H * W], "i": np.broadcast_to(INDEX, (1, C, H * W)).copy()},
    ),
    "GatherND of rows and columns": (
        [op("Transpose", ["c"], "f", perm=[2, 3, 0, 1]), op("GatherND", ["f", "i"], "g"),
         op("Transpose", ["g"], "y", perm=[1, 2, 0])],
        {"i": PAIRS},
    ),
    "a product with a mask": ([op("Mul", ["m", "c"], "y")], {"m": MASK.astype(np.float32)}),
    "a choice by a mask": ([op("Where", ["m", "c", "x"], "y")], {"m": MASK}),
    "a choice by its complement": ([op("Where", ["m", "x", "c"], "y")], {"m": ~MASK}),
    "every other row": (
        [op("Slice", ["c", "s", "e", "a", "t"], "y")], {"s": [1], "e": [H], "a": [2], "t": [2]}),
}  # fmt: skip


@pytest.mark.parametrize("read", READS)
def test_constant_reads_are_found(read, caplog):
    steps, constants = READS[read]
    model = network(steps, {name: np.asarray(array) for name, array in constants.items()})
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(model)
    assert len(perforated(after)) == 1
    selection = next(n.input[1] for n in after.graph.node if n.op_type == "PerforatedConv")
    (array,) = [numpy_helper.to_array(t) for t in after.graph.initializer if t.name == selection]
    wanted = np.zeros((H, W)) if read == "every other row" else MASK[0, 0]
    wanted[1::2] += read == "every other row"
    np.testing.assert_array_equal(array[0, 0], wanted)
    assert "fixed pixels" in caplog.text
    assert_equal(model, attach_bodies(after), lower(model, "gather"), lower(model, "dense"))


def gathering(model):
    """Lowered to gathering, whatever that costs."""
    ours = recognised(model)
    for node in ours.graph.node:
        if node.op_type == "PerforatedConv":
            choose(node, Choice("gather", 2.0))
    return lower(ours, "gather")


def test_lists_of_constant_pixels_are_constants():
    steps, constants = READS["a Gather of the flattened map"]
    model = network(steps, {name: np.asarray(array) for name, array in constants.items()})
    lowered = gathering(model)
    ops = ops_of(lowered)
    assert ops["Gemm"] or ops["MatMul"]
    assert not {"NonZero", "CumSum", "Range", "If", "Conv", "Equal"} & set(ops)
    assert_equal(model, lowered)


def test_a_batch_of_any_size():
    steps, constants = READS["a Gather of the flattened map"]
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    model = network(steps, arrays, batch="n")
    after = recognised(model)
    assert len(perforated(after)) == 1
    for batch in (1, 3):
        assert_equal(model, attach_bodies(after), gathering(model), batch=batch)


def test_what_a_window_reads_of_constant_pixels():
    sparse = np.zeros((1, 1, H, W), np.float32)
    sparse[..., 2::5, 2::5] = 1
    first = [op("Conv", ["x", "w"], "d", pads=[1, 1, 1, 1], kernel_shape=[3, 3], strides=[1, 1])]
    model = network([op("Mul", ["c", "m"], "y")], {"m": sparse}, before=first)
    after = recognised(model)
    assert len(perforated(after)) == 2
    assert_equal(model, attach_bodies(after), gathering(model))


NOT_STATIC = {
    "an index that is computed": (
        [op("Reshape", ["c", "flat"], "f"), op("ReduceMax", ["c"], "a", keepdims=0),
         op("Cast", ["a"], "i", to=7), op("Clip", ["i", "low", "high"], "j"),
         op("Gather", ["f", "j"], "y", axis=2)],
        {"flat": [0, C, H * W], "low": np.int64(0), "high": np.int64(3)},
        "reads every pixel",
    ),
    "a second reader": (
        [op("Mul", ["c", "m"], "p"), op("Neg", ["c"], "o"), op("Add", ["p", "o"], "y")],
        {"m": MASK.astype(np.float32)},
        "it is an output of the model",
    ),
    "channels mixed with pixels": (
        [op("Reshape", ["c", "flat"], "f"), op("Gather", ["f", "i"], "y", axis=1)],
        {"flat": [0, H * W, C], "i": np.arange(H * W - 1)},
        "reads every pixel",
    ),
    "most pixels": (
        [op("Slice", ["c", "s", "e", "a"], "y")],
        {"s": [1, 1], "e": [H, W], "a": [2, 3]},
        "of its pixels are read, always the same",
    ),
    "a mask of no pixel": ([op("Mul", ["c", "m"], "y")], {"m": 0 * MASK.astype(np.float32)},
                           "none of its pixels is read"),
    "both sides of a choice": (
        [op("Neg", ["c"], "o"), op("Where", ["m", "c", "o"], "y")], {"m": MASK},
        "its readers together read every pixel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("read", NOT_STATIC)
def test_what_is_not_constant_stays_dense(read, caplog):
    steps, constants, why = NOT_STATIC[read]
    model = network(steps, {name: np.asarray(array) for name, array in constants.items()})
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(model)
    assert perforated(after) == []
    assert why in caplog.text
    assert_equal(model, attach_bodies(after))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_constant_reads_stay_bit_for_bit(data):
    """Layouts, indices and masks in any order; with a batch that is a number or is not."""
    height, width = data.draw(st.integers(3, 7)), data.draw(st.integers(3, 7))
    batch = data.draw(st.sampled_from([1, 2, "n"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    steps, constants, value = [], {}, "c"
    shape = [batch, C, height, width]
    for number in range(data.draw(st.integers(1, 4))):
        out, name = f"s{number}", f"k{number}"
        kind = data.draw(st.sampled_from(["take", "take", "flat", "turn", "mask", "cut", "relu"]))
        if kind == "flat" and shape[0] == batch and len(shape) == 4:
            constants[name] = np.array([0, shape[1], -1])
            shape = [batch, shape[1], shape[2] * shape[3]]
            steps.append(op("Reshape", [value, name], out))
        elif kind == "turn":
            perm = data.draw(st.permutations(range(len(shape))))
            shape = [shape[axis] for axis in perm]
            steps.append(op("Transpose", [value], out, perm=perm))
        elif kind == "mask":
            dims = [1 if size == batch or data.draw(st.booleans()) else size for size in shape]
            constants[name] = (rng.random(dims) < 0.5).astype(np.float32)
            steps.append(op("Mul", [value, name], out))
        elif kind == "relu":
            steps.append(op("Relu", [value], out))
        else:
            axes = [axis for axis, size in enumerate(shape) if isinstance(size, int) and size > 1]
            axis = data.draw(st.sampled_from(axes))
            if kind == "take":
                index = rng.integers(-shape[axis], shape[axis], rng.integers(1, 5))
                constants[name], shape[axis] = index, len(index)
                steps.append(op("Gather", [value, name], out, axis=axis))
            else:
                for suffix, bound in zip("sea", (1, shape[axis], axis), strict=True):
                    constants[name + suffix] = np.array([bound])
                shape[axis] -= 1
                steps.append(op("Slice", [value, *(name + suffix for suffix in "sea")], out))
        value = out
    steps.append(op("Identity", [value], "y"))
    model = network(steps, constants, batch=batch, size=(height, width))
    count = 2 if batch == "n" else batch
    after = attach_bodies(recognised(model))
    assert_equal(model, after, gathering(model), batch=count, size=(height, width))
