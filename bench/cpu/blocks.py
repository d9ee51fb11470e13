"""Residual blocks of the shapes that matter, as dense networks and as gated ones.

A block is y = relu(x + F(x)) with F = 1x1, 3x3, 1x1 (bottleneck), or 1x1, depthwise 3x3, 1x1 with
ReLU6 and no final activation (inverted residual), gated as a whole.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cpu.masks import Mask, support

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        name: Of the shape.
        channels: C, of x.
        inner: M, between the 1x1 convolutions.
        size: H and W.
        dilation: Of the 3x3 convolution.
        depthwise: An inverted residual instead of a bottleneck.
    """

    name: str
    channels: int
    inner: int
    size: tuple[int, int]
    dilation: int = 1
    depthwise: bool = False

    def bound(self, active: Mask) -> float:
        """Dense products over those of a block that is exact: the speed-up at equal GFLOP/s."""
        c, m = self.channels, self.inner
        spatial = 9 * m if self.depthwise else 9 * m * m
        halo, density = support(active, self.dilation).mean(), active.mean()
        return float((2 * c * m + spatial) / (halo * c * m + density * (spatial + c * m)))

    def weights(self) -> dict[str, Array]:
        """Random weights, scaled so that values stay near one."""
        rng = np.random.default_rng(1)
        c, m, taps = self.channels, self.inner, (3, 3)
        shapes = {
            "w1": (m, c, 1, 1),
            "w2": (m, 1 if self.depthwise else m, *taps),
            "w3": (c, m, 1, 1),
        }
        values = {}
        for name, shape in shapes.items():
            scale = np.sqrt(2 / np.prod(shape[1:]))
            values[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
            values["b" + name[1]] = (0.1 * rng.standard_normal(shape[0])).astype(np.float32)
        return values


BLOCKS = (
    Block("b256", 256, 64, (120, 160)),
    Block("b512", 512, 128, (60, 80)),
    Block("b1024", 1024, 256, (60, 80), dilation=2),
    Block("b2048", 2048, 512, (60, 80), dilation=4),
)
SMALL_BLOCKS = (
    Block("r56", 256, 64, (56, 56)),
    Block("r28", 512, 128, (28, 28)),
    Block("r14", 1024, 256, (14, 14)),
    Block("r7", 2048, 512, (7, 7)),
)
DEPTHWISE_BLOCKS = (
    Block("i56", 32, 192, (56, 56), depthwise=True),
    Block("i28", 64, 384, (28, 28), depthwise=True),
    Block("i256", 32, 192, (128, 256), depthwise=True),
)


def dense_model(block: Block) -> onnx.ModelProto:
    """The block without a gate, channels first: x (1, C, H, W) -> y."""
    middle = "Clip" if block.depthwise else "Relu"
    limits = ["zero", "six"] if block.depthwise else []
    d = block.dilation
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),  # as in the gated block
        helper.make_node("Conv", ["r", "w1", "b1"], ["c1"]),
        helper.make_node(middle, ["c1", *limits], ["a1"]),
        helper.make_node(
            "Conv", ["a1", "w2", "b2"], ["c2"],
            pads=[d] * 4, dilations=[d, d], group=block.inner if block.depthwise else 1,
        ),
        helper.make_node(middle, ["c2", *limits], ["a2"]),
        helper.make_node("Conv", ["a2", "w3", "b3"], ["c3"]),
        helper.make_node("Add", ["c3", "r"], ["y" if block.depthwise else "s"]),
    ]  # fmt: skip
    if not block.depthwise:
        nodes.append(helper.make_node("Relu", ["s"], ["y"]))
    constants = {"zero": np.float32(0), "six": np.float32(6)} if block.depthwise else {}
    shape = [1, block.channels, *block.size]
    return _model(nodes, {"x": (TensorProto.FLOAT, shape)}, shape, block.weights() | constants)


def gated_model(block: Block, channels_last: bool = False) -> onnx.ModelProto:
    """The gated block in our ops: x (1, C, H, W), selection (1, 1, H, W) -> y.

    Outside the selection y is x: x is not negative, and neither is what a final ReLU leaves.

    Args:
        block: Its shape.
        channels_last: x and y are (1, H, W, C), as inside of a gated stage.
    """
    activation, d = (2 if block.depthwise else 1), block.dilation
    limits = ["zero", "six"] if block.depthwise else []
    first, last = ("a", "b") if channels_last else ("x", "y")
    spatial = {
        "kernel_shape": [3, 3], "pads": [d] * 4, "dilations": [d, d],
        "group": block.inner if block.depthwise else 1,
    }  # fmt: skip
    point = {"kernel_shape": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    nodes = [
        helper.make_node("Conv", ["r", "w1", "b1"], ["c1"], name="conv1"),
        helper.make_node("Clip" if limits else "Relu", ["c1", *limits], ["a1"], name="act1"),
        _conv("a1", 2, "nothing", "a2", mode=0, activation=activation, **spatial),
        _conv("a2", 3, "r", last, mode=1, activation=0 if limits else 1, **point),
    ]
    # What a stage hands on comes out of a ReLU, which is how a compiler knows that it is positive.
    nodes.insert(0, helper.make_node("Relu", [first], ["r"], name="positive"))
    if channels_last:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["b"], ["y"], perm=[0, 2, 3, 1]))
    c, (h, w) = block.channels, block.size
    shape = [1, h, w, c] if channels_last else [1, c, h, w]
    inputs = {
        "x": (TensorProto.FLOAT, shape),
        "selection": (TensorProto.INT32, [1, 1, h, w]),
    }
    constants: dict[str, Array] = {"nothing": np.zeros((1, 1, 1, 1), np.float32)}
    if limits:
        constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    return _model(nodes, inputs, shape, block.weights() | constants)


def _conv(x: str, number: int, base: str, y: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(
        "PerforatedConv", [x, "selection", f"w{number}", f"b{number}", base], [y],
        name=f"conv{number}", domain="pagdeploy", strides=[1, 1], branch=1, alpha=0.0, **attributes,
    )  # fmt: skip


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int]]],
    output: list[int],
    constants: dict[str, Array],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pagdeploy", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
