"""Gated blocks of the shapes that matter, several in a row as in a stage, and their dense twins.

Forms, F being 1x1, 3x3, 1x1 (bottleneck), or 1x1, depthwise 3x3, 1x1 with ReLU6 (inverted
residual, without a last activation), and s the selection:

    whole   y = s ? relu(x + F(x)) : x
    pag     PAG's own: X = relu(conv1(x)), Y = s ? relu(conv3x3(X)) : X, y = relu(x + conv1(Y))
    conv    y = s ? relu(conv3x3(x)) : x
    pool    MultiPool: y = relu(conv3x3(x)) of the dilation that the pixel chose, or x

The dense twin of the first three computes every pixel; that of `pool` is one dilated convolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cpu.masks import Mask, support
from pagdeploy.ops import Activation, Mode

Array = npt.NDArray[np.float32]
DILATIONS = (10, 8, 6, 4, 2, 1)  # of MultiPool's branches, in order; the branch behind them copies


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        name: Of the shape.
        channels: C, of x.
        inner: M, of the 3x3; C itself where there are no 1x1 convolutions.
        size: H and W.
        dilation: Of the 3x3; of the dense twin for `pool`.
        depthwise: An inverted residual instead of a bottleneck.
        form: "whole", "pag", "conv" or "pool".
    """

    name: str
    channels: int
    inner: int
    size: tuple[int, int]
    dilation: int = 1
    depthwise: bool = False
    form: str = "whole"

    @property
    def branches(self) -> int:
        """K, of the selection."""
        return len(DILATIONS) + 1 if self.form == "pool" else 2

    def dense_products(self) -> float:
        """Products a pixel, of the dense twin."""
        c, m = self.channels, self.inner
        spatial = 9 * m if self.depthwise else 9 * m * m
        return float(spatial if self.form in ("conv", "pool") else 2 * c * m + spatial)

    def needed_products(self, selection: npt.NDArray[np.integer] | Mask) -> float:
        """Products a pixel that an exact engine cannot avoid.

        Args:
            selection: (H, W).
        """
        c, m = self.channels, self.inner
        spatial = 9 * m if self.depthwise else 9 * m * m
        if self.form == "pool":
            return float((selection != len(DILATIONS)).mean() * spatial)
        active = selection == 1
        density = active.mean()
        if self.form == "conv":
            return float(density * spatial)
        if self.form == "pag":
            return float(2 * c * m + density * spatial)
        halo = support(active, self.dilation).mean()
        return float(halo * c * m + density * (spatial + c * m))

    def bound(self, *selections: npt.NDArray[np.integer] | Mask) -> float:
        """Dense products over needed ones, of a block for each selection: the largest speed-up at
        equal arithmetic speed."""
        needed = sum(self.needed_products(selection) for selection in selections)
        return len(selections) * self.dense_products() / needed

    def weights(self, number: int = 0) -> dict[str, Array]:
        """Random weights of the block with that number, scaled so that values stay near one."""
        rng = np.random.default_rng(1 + number)
        c, m, taps = self.channels, self.inner, (3, 3)
        spatial = (m, 1 if self.depthwise else m, *taps)
        if self.form == "pool":
            shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
                (f"w{1 + branch}" for branch in range(len(DILATIONS))), spatial
            )
        elif self.form == "conv":
            shapes = {"w2": spatial}
        else:
            shapes = {"w1": (m, c, 1, 1), "w2": spatial, "w3": (c, m, 1, 1)}
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
# No power of two, no multiple of a vector or of a tile.
ODD_BLOCKS = (
    Block("o320", 320, 80, (37, 53)),
    Block("o200", 200, 50, (61, 45), dilation=3),
    Block("o140", 140, 35, (99, 131)),
)
DEPTHWISE_BLOCKS = (
    Block("i56", 32, 192, (56, 56), depthwise=True),
    Block("i28", 64, 384, (28, 28), depthwise=True),
    Block("i256", 32, 192, (128, 256), depthwise=True),
)
PAG_BLOCKS = tuple(
    dataclasses.replace(block, name=f"p{block.name[1:]}", form="pag")
    for block in (*BLOCKS, ODD_BLOCKS[0])
)
PAG_CONVS = tuple(
    Block(f"c{block.inner}", block.inner, block.inner, block.size, block.dilation, form="conv")
    for block in (*BLOCKS, ODD_BLOCKS[0])
)
MULTI_POOLS = (
    Block("m64", 64, 64, (120, 160), dilation=4, form="pool"),
    Block("m256", 256, 256, (60, 80), dilation=4, form="pool"),
    Block("m512", 512, 512, (60, 80), dilation=4, form="pool"),  # where PAG has it
    Block("m80", 80, 80, (37, 53), dilation=4, form="pool"),
)
INT8_BLOCKS = tuple(
    dataclasses.replace(block, name=f"q{block.name}")
    for block in (BLOCKS[0], PAG_BLOCKS[0], *BLOCKS[1:3], ODD_BLOCKS[0])
)


def selection_name(number: int) -> str:
    """The input that selects the pixels of the block with that number."""
    return f"selection{number + 1}" if number else "selection"


def dense_model(block: Block, count: int = 1, *, framed: bool = False) -> onnx.ModelProto:
    """Blocks without a gate: x (1, C, H, W) -> y.

    Args:
        block: Its form and shape.
        count: How many in a row.
        framed: See `gated_model`.
    """
    return _Graph(gated=False).model(block, count, framed=framed)


def gated_model(
    block: Block, channels_last: bool = False, count: int = 1, *, framed: bool = False
) -> onnx.ModelProto:
    """Gated blocks in our ops: x (1, C, H, W), selections int32 (1, 1, H, W) -> y.

    Args:
        block: Its form and shape.
        channels_last: x and y are (1, H, W, C), as inside of a gated stage.
        count: How many in a row, each with a selection of its own.
        framed: A 1x1 depthwise convolution at both ends, which int8 leaves in float32 as it does
            the first and the last layer of every network; so all of the blocks is quantized.
    """
    return _Graph(gated=True).model(block, count, framed=framed, channels_last=channels_last)


class _Graph:
    """Nodes and constants, of one description of the blocks for the gated and the dense model."""

    def __init__(self, *, gated: bool) -> None:
        self.gated = gated
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}

    def model(
        self, block: Block, count: int, *, framed: bool, channels_last: bool = False
    ) -> onnx.ModelProto:
        x, c, (h, w) = "x", block.channels, block.size
        if channels_last:
            x = self.op("Transpose", x, perm=[0, 3, 1, 2])
        if framed:
            x = self._frame(x, c)
        # What a stage hands on comes out of a ReLU: so a compiler knows that it is not negative.
        x = self.op("Relu", x)
        for number in range(count):
            weights = {
                name: self.constant(f"{name}.{number}", value)
                for name, value in block.weights(number).items()
            }
            x = _FORMS[block.form](self, block, number, x, weights)
        if framed:
            x = self._frame(x, c)
        if channels_last:
            self.op("Transpose", x, perm=[0, 2, 3, 1])
        self.nodes[-1].output[0] = "y"
        shape = [1, h, w, c] if channels_last else [1, c, h, w]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        for number in range(count if self.gated else 0):
            name = selection_name(number)
            inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, [1, 1, h, w]))
        graph = helper.make_graph(
            self.nodes, "blocks", inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pagdeploy", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        name = f"{op_type}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def conv(self, x: str, w: str, b: str, dilation: int = 0, group: int = 1) -> str:
        """A 1x1 convolution, or a 3x3 one of that dilation."""
        return self.op("Conv", x, w, b, **_geometry(dilation, group))

    def activation(self, x: str, kind: Activation) -> str:
        if kind == Activation.RELU6:
            zero, six = (self.constant(str(n), np.array(n, np.float32)) for n in (0, 6))
            return self.op("Clip", x, zero, six)
        return self.op("Relu", x) if kind == Activation.RELU else x

    def perforated(
        self, x: str, selection: str, w: str, b: str, base: str, *, mode: Mode = Mode.REPLACE,
        activation: Activation = Activation.RELU, branch: int = 1, dilation: int = 0,
        group: int = 1,
    ) -> str:  # fmt: skip
        """PerforatedConv; in the dense twin the same convolution at every pixel."""
        if self.gated:
            return self.op(
                "PerforatedConv", x, selection, w, b, base, domain="pagdeploy", branch=branch,
                mode=int(mode), activation=int(activation), alpha=0.0, **_geometry(dilation, group),
            )  # fmt: skip
        y = self.conv(x, w, b, dilation, group)
        if mode == Mode.ADD:
            y = self.op("Add", y, base)
        return self.activation(y, activation)

    def _frame(self, x: str, channels: int) -> str:
        ones = self.constant("ones", np.ones((channels, 1, 1, 1), np.float32))
        zeros = self.constant("zeros", np.zeros(channels, np.float32))
        return self.conv(x, ones, zeros, group=channels)


def _geometry(dilation: int, group: int) -> dict[str, object]:
    kernel, rate = ([3, 3], [dilation] * 2) if dilation else ([1, 1], [1, 1])
    return {
        "kernel_shape": kernel, "strides": [1, 1], "pads": [dilation] * 4, "dilations": rate,
        "group": group,
    }  # fmt: skip


def _whole(put: _Graph, block: Block, number: int, r: str, names: Mapping[str, str]) -> str:
    selection = selection_name(number)
    inside = Activation.RELU6 if block.depthwise else Activation.RELU
    after = Activation.NONE if block.depthwise else Activation.RELU
    nothing = put.constant("nothing", np.zeros((1, 1, 1, 1), np.float32)) if put.gated else ""
    a1 = put.activation(put.conv(r, names["w1"], names["b1"]), inside)
    a2 = put.perforated(
        a1, selection, names["w2"], names["b2"], nothing, activation=inside,
        dilation=block.dilation, group=block.inner if block.depthwise else 1,
    )  # fmt: skip
    return put.perforated(
        a2, selection, names["w3"], names["b3"], r, mode=Mode.ADD, activation=after
    )


def _pag(put: _Graph, block: Block, number: int, r: str, names: Mapping[str, str]) -> str:
    x = put.op("Relu", put.conv(r, names["w1"], names["b1"]))
    y = put.perforated(
        x, selection_name(number), names["w2"], names["b2"], x, dilation=block.dilation
    )
    return put.op("Relu", put.op("Add", put.conv(y, names["w3"], names["b3"]), r))


def _conv(put: _Graph, block: Block, number: int, x: str, names: Mapping[str, str]) -> str:
    return put.perforated(
        x, selection_name(number), names["w2"], names["b2"], x, dilation=block.dilation
    )


def _pool(put: _Graph, block: Block, number: int, x: str, names: Mapping[str, str]) -> str:
    if not put.gated:
        return put.perforated(x, "", names["w1"], names["b1"], "", dilation=block.dilation)
    y = x
    for branch, dilation in enumerate(DILATIONS):
        y = put.perforated(
            x, selection_name(number), names[f"w{branch + 1}"], names[f"b{branch + 1}"], y,
            branch=branch, dilation=dilation,
        )  # fmt: skip
    return y


_FORMS: Mapping[str, Callable[[_Graph, Block, int, str, Mapping[str, str]], str]] = {
    "whole": _whole,
    "pag": _pag,
    "conv": _conv,
    "pool": _pool,
}
