"""Small ONNX models and random operands for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pagdeploy.ops import DOMAIN, OPS, PERFORATED_CONV, VERSION
from pagdeploy.ops.derive import function_body
from pagdeploy.ops.perforated_conv_reference import output_size

ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def op_node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any):
    """A node of our domain; attributes that are not given take the table's defaults."""
    table = {a.name: a.default for a in OPS[op_type].attributes if a.default is not None}
    return helper.make_node(op_type, inputs, outputs, domain=DOMAIN, **{**table, **attributes})


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    *,
    opset: int = 17,
    bodies: bool = True,
    initializers: Iterable[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A portable model: the nodes, and the function body of every op of ours that is used.

    Args:
        nodes: The nodes, in order.
        inputs: Element type and shape of every graph input.
        outputs: Element type and shape of every graph output.
        opset: The default-domain opset.
        bodies: False gives the stripped form, which only a native implementation can run.
        initializers: The graph's constants.
    """
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *of) for name, of in inputs.items()],
        [helper.make_tensor_value_info(name, *of) for name, of in outputs.items()],
        list(initializers),
    )
    used = {node.op_type for node in nodes if node.domain == DOMAIN}
    return helper.make_model(
        graph,
        functions=[function_body(OPS[name], opset) for name in sorted(used) if bodies],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=8 if opset <= 18 else 9 if opset <= 20 else 10,
    )


def run_onnxruntime(model: onnx.ModelProto, feed: Mapping[str, NDArray[Any]]) -> list[Any]:
    """The outputs of the model in onnxruntime on the CPU, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feed))


@dataclasses.dataclass(frozen=True)
class Conv:
    """One convolution geometry, by default 3x3 that keeps the size of a small odd map."""

    n: int = 2
    channels: int = 4
    filters: int = 6
    size: tuple[int, int] = (7, 9)
    kernel_shape: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1

    @property
    def attributes(self) -> dict[str, Any]:
        """The geometry as attributes of PerforatedConv."""
        names = ("kernel_shape", "strides", "pads", "dilations", "group")
        return {name: getattr(self, name) for name in names}

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output."""
        return output_size(self.size, self.kernel_shape, self.strides, self.pads, self.dilations)

    def operands(
        self,
        rng: np.random.Generator,
        dtype: str = "float32",
        *,
        zero_bias: bool = False,
        zero_base: bool = False,
    ) -> dict[str, NDArray[Any]]:
        """X, W, B and base, normally distributed; a zero base has the shape (1, 1, 1, 1)."""
        shapes: dict[str, tuple[int, ...]] = {
            "X": (self.n, self.channels, *self.size),
            "W": (self.filters, self.channels // self.group, *self.kernel_shape),
            "B": (self.filters,),
            "base": (1, 1, 1, 1) if zero_base else (self.n, self.filters, *self.out),
        }
        arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        if zero_bias:
            arrays["B"][:] = 0
        if zero_base:
            arrays["base"][:] = 0
        return {name: array.astype(dtype) for name, array in arrays.items()}

    def selection(self, rng: np.random.Generator, branches: int = 2) -> NDArray[np.int32]:
        """A random branch for every output pixel, (N, 1, Ho, Wo)."""
        return rng.integers(0, branches, (self.n, 1, *self.out), dtype=np.int32)


def conv_model(
    dtype: str = "float32",
    *,
    opset: int = 17,
    bodies: bool = True,
    per_image: bool = False,
    zero_base: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one PerforatedConv with every operand as a graph input and N, H, W dynamic."""
    element = ELEMENT_TYPES[dtype]
    names = [port.name for port in PERFORATED_CONV.inputs]
    return model_of(
        [op_node("PerforatedConv", names, ["Y"], **attributes)],
        {
            "X": (element, ["n", "c", "h", "w"]),
            "selection": (TensorProto.INT32, ["n", 1, *([1, 1] if per_image else ["ho", "wo"])]),
            "W": (element, ["m", "c_per_group", *attributes["kernel_shape"]]),
            "B": (element, ["m"]),
            "base": (element, [1, 1, 1, 1] if zero_base else ["n", "m", "ho", "wo"]),
        },
        {"Y": (element, ["n", "m", "ho", "wo"])},
        opset=opset,
        bodies=bodies,
    )
