"""The built onnxruntime op library, and models of single nodes to run with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.native import native_session, op_library

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def library() -> Path:
    """The newest built library, or a skip."""
    return op_library()


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    """A node of one of our domains, or of ONNX."""
    lowered = (
        "ActivePixels", "SupportPixels", "PerforatedConvNhwc", "PerforatedConvPairNhwc",
        "ToChannelsLast", "ToChannelsFirst", "ChannelMeansNhwc", "QLinearPerforatedConvNhwc",
        "QLinearPerforatedConvNhwcFloat",
    )  # fmt: skip
    ours = {"PAGGate": "pagdeploy", "PerforatedConv": "pagdeploy"}
    domain = "pagdeploy.cpu" if op in lowered else ours.get(op, "")
    return helper.make_node(op, inputs, outputs, domain=domain, **attributes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: Arrays,
    outputs: dict[str, type],
    constants: Arrays,
    *,
    dynamic: bool = True,
) -> onnx.ModelProto:
    """A model; with `dynamic` only the ranks of its inputs are fixed, with a name for each size."""

    def info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        names = [f"{name}_{axis}" for axis in range(array.ndim)]
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, names if dynamic else array.shape)

    graph = helper.make_graph(
        nodes,
        "case",
        [info(name, array) for name, array in inputs.items()],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(t)), None)
            for name, t in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [("", 17), ("pagdeploy", 1), ("pagdeploy.cpu", 1)]
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=8
    )


Load = Callable[..., Any]


@pytest.fixture(scope="session")
def load(library: Path) -> Load:
    """Load a model in onnxruntime with the library."""
    return partial(native_session, library=library)
