"""Geometries, operands and models of SegAwareConv for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from pagdeploy.ops import SEG_AWARE_CONV
from tests.models import Conv, model_of, op_node

INPUTS = tuple(port.name for port in SEG_AWARE_CONV.inputs)

GEOMETRIES = {
    "3x3": Conv(),
    "1x1": Conv(kernel_shape=(1, 1), pads=(0, 0, 0, 0)),
    "5x3": Conv(kernel_shape=(5, 3), pads=(2, 1, 2, 1)),
    "no pads": Conv(pads=(0, 0, 0, 0)),
    "stride 2": Conv(strides=(2, 2)),
    "stride (2, 3)": Conv(strides=(2, 3), pads=(1, 0, 1, 1)),
    "groups": Conv(group=2),
    "depthwise": Conv(channels=4, filters=4, group=4),
    "two filters a channel": Conv(channels=4, filters=8, group=4),
    "dilation 10": Conv(dilations=(10, 10), pads=(10, 10, 10, 10), group=2),
    "dilation (2, 1)": Conv(dilations=(2, 1), pads=(0, 1, 2, 1), strides=(2, 2)),
    "asymmetric pads": Conv(pads=(0, 1, 1, 0)),
    "one pixel map": Conv(n=1, size=(1, 1)),
    "7x7, more taps than are held at once": Conv(kernel_shape=(7, 7), pads=(3, 3, 3, 3)),
}


def operands_of(
    conv: Conv,
    rng: np.random.Generator,
    dtype: str = "float32",
    *,
    depth: int = 3,
    hardness: float = 0.4,
) -> dict[str, NDArray[Any]]:
    """Every input of the op, normally distributed; embeddings of `depth` channels, float32 if X
    is of half precision.
    """
    wide = "float64" if dtype == "float64" else "float32"
    plain = conv.operands(rng, dtype)
    embeddings = rng.normal(size=(conv.n, depth, *conv.size)).astype(wide)
    found = {**plain, "E": embeddings, "hardness": np.array(hardness, wide)}
    return {name: found[name] for name in INPUTS}


def seg_aware_model(
    operands: Mapping[str, NDArray[Any]],
    *,
    constants: tuple[str, ...] = (),
    opset: int = 17,
    bodies: bool = True,
    named: bool = True,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; N, H and W are dynamic if `named`.

    Args:
        operands: Give element types and shapes.
        constants: Which of them are initializers instead of inputs.
        opset: Of the default domain.
        bodies: False leaves the function body away.
        named: False fixes every size.
        **attributes: Of the node; the table's defaults where not given.
    """
    element = {
        name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in operands.items()
    }
    shapes: dict[str, list[int | str]] = {name: list(a.shape) for name, a in operands.items()}
    for name in ("X", "E") if named else ():
        shapes[name] = ["n", shapes[name][1], "h", "w"]
    return model_of(
        [op_node("SegAwareConv", list(INPUTS), ["Y"], **attributes)],
        {name: (element[name], shapes[name]) for name in INPUTS if name not in constants},
        {"Y": (element["X"], [None] * 4)},  # type: ignore[dict-item]
        opset=opset,
        bodies=bodies,
        initializers=[onnx.numpy_helper.from_array(operands[name], name) for name in constants],
    )


@st.composite
def seg_aware_convs(draw: st.DrawFn) -> Conv:
    """A geometry whose kernel fits into the padded map, and whose windows have their centres."""
    small = st.integers(1, 3)
    group = draw(small)
    kernel = draw(st.tuples(*[st.sampled_from([1, 3, 5])] * 2))
    dilations = draw(st.tuples(small, small))
    half = [dilations[axis] * (kernel[axis] // 2) for axis in range(2)]
    pads = tuple(draw(st.integers(0, limit)) for limit in (*half, *half))
    reach = [dilations[axis] * (kernel[axis] - 1) + 1 for axis in range(2)]
    least = [max(1, reach[axis] - pads[axis] - pads[axis + 2]) for axis in range(2)]
    return Conv(
        n=draw(st.integers(1, 2)),
        channels=group * draw(small),
        filters=group * draw(small),
        size=(draw(st.integers(least[0], least[0] + 4)), draw(st.integers(least[1], least[1] + 4))),
        kernel_shape=kernel,
        strides=draw(st.tuples(small, small)),
        pads=pads,  # type: ignore[arg-type]
        dilations=dilations,
        group=group,
    )
