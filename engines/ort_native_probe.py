"""Hold our op library to the op table, and print the verdict as JSON; see `ort_native`.

Small cases of everything that the library has: the gate, the literal convolution in both modes,
and the channels-last one on its lists of pixels.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops import PAG_GATE, PERFORATED_CONV

_SIZES = {"N": 2, "C": 20, "M": 36, "H": 9, "W": 11}
_CONV: dict[str, Any] = {
    "kernel_shape": [3, 3], "strides": [1, 1], "pads": [2, 2, 2, 2], "dilations": [2, 2],
    "group": 1, "activation": 1, "alpha": 0.0,
}  # fmt: skip
_REACH = {name: _CONV[name] for name in ("kernel_shape", "strides", "pads", "dilations")}


def main(library: str) -> None:
    """Print {"problem": null}, or what is wrong as one sentence."""
    try:
        problem = _first_problem(library)
    except Exception as error:  # onnxruntime raises several types of its own
        first = (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
        problem = f"It cannot be used ({first})."
    print(json.dumps({"problem": problem}))


def _first_problem(library: str) -> str | None:
    for mode in (0, 1):
        model, wanted, inputs = _case(mode)
        found = _run(model, inputs, library)
        for name, expected in wanted.items():
            error = np.abs(found[name] - expected).max() / np.abs(expected).max()
            if not error <= PERFORATED_CONV.bounds["float32"]:
                return f"Its {name} is wrong by {error:.1e} of the largest value (mode {mode})."
    return None


def _case(
    mode: int,
) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """A model with every op, what it must give, and its inputs."""
    rng = np.random.default_rng(mode)
    n, c, m, h, w = _SIZES.values()
    x = rng.standard_normal((n, c, h, w), np.float32)
    base = rng.standard_normal((n, m, h, w), np.float32)
    weights = rng.standard_normal((m, c, 3, 3), np.float32)
    bias = rng.standard_normal(m, np.float32)
    logits = rng.standard_normal((n, 3, h, w), np.float32)

    conv = {**_CONV, "mode": mode}
    lists = "pagdeploy.cpu"
    nodes = [
        helper.make_node("PAGGate", ["logits"], ["selection"], domain="pagdeploy"),
        helper.make_node(
            "PerforatedConv", ["x", "selection", "w", "b", "base"], ["literal"],
            domain="pagdeploy", branch=1, **conv,
        ),
        helper.make_node("ActivePixels", ["selection"], ["active"], domain=lists, branch=1),
        helper.make_node("SupportPixels", ["active", "size"], ["read"], domain=lists, **_REACH),
        helper.make_node("Transpose", ["x"], ["x_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["base"], ["base_last"], perm=[0, 2, 3, 1]),
        # An identity on the support alone: what it leaves out is not read.
        helper.make_node(
            "PerforatedConvNhwc", ["x_last", "eye", "no_bias", "zero", "read"], ["copied"],
            domain=lists, kernel_shape=[1, 1], inactive=2,
        ),
        helper.make_node(
            "PerforatedConvNhwc", ["copied", "w", "b", "base_last", "active"], ["y_last"],
            domain=lists, **conv,
        ),
        helper.make_node("Transpose", ["y_last"], ["channels_last"], perm=[0, 3, 1, 2]),
    ]  # fmt: skip
    constants: dict[str, npt.NDArray[Any]] = {
        "w": weights,
        "b": bias,
        "size": np.array([n, h, w], np.int64),
        "eye": np.eye(c, dtype=np.float32).reshape(c, c, 1, 1),
        "no_bias": np.zeros(c, np.float32),
        "zero": np.zeros((1, 1, 1, 1), np.float32),
    }
    inputs = {"x": x, "base": base, "logits": logits}
    selection = PAG_GATE.reference(logits)
    y = PERFORATED_CONV.reference(x, selection, weights, bias, base, branch=1, **conv)
    wanted = {"selection": selection, "literal": y, "channels_last": y}
    outputs = [
        helper.make_tensor_value_info("selection", TensorProto.INT32, [n, 1, h, w]),
        helper.make_tensor_value_info("literal", TensorProto.FLOAT, y.shape),
        helper.make_tensor_value_info("channels_last", TensorProto.FLOAT, y.shape),
    ]
    graph = helper.make_graph(
        nodes,
        "self_test",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in inputs.items()],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [
        helper.make_opsetid(domain, v) for domain, v in (("", 17), ("pagdeploy", 1), (lists, 1))
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), wanted, inputs


def _run(
    model: onnx.ModelProto, inputs: dict[str, npt.NDArray[Any]], library: str
) -> dict[str, npt.NDArray[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
