"""Hold our op library to the op table, and print the verdict as JSON; see `ort_native`.

Small cases of what the library has: the gate, the literal convolution in both modes, and the
channels-last one on its lists of pixels, between changes of layout, with its means, and the same in
8 bits. So a library that is older than what the lowering writes fails.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from pagdeploy.ops import PAG_GATE, PERFORATED_CONV

_SIZES = {"N": 2, "C": 20, "M": 36, "H": 9, "W": 11}
_CONV: dict[str, Any] = {
    "kernel_shape": [3, 3], "strides": [1, 1], "pads": [2, 2, 2, 2], "dilations": [2, 2],
    "group": 1, "activation": 1, "alpha": 0.0,
}  # fmt: skip
_STEPS = {"x": 0.02, "w": 0.01, "y": 0.05}  # of 8 bits
_ZERO = 128
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
    cases = {f"mode {mode}": _case(mode) for mode in (0, 1)} | {"8 bits": _quantized_case()}
    for name, (model, wanted, inputs) in cases.items():
        found = _run(model, inputs, library)
        for output, expected in wanted.items():
            off = found[output].astype(np.float64) - expected
            error = np.abs(off).max() / np.abs(expected).max()
            if not error <= PERFORATED_CONV.bounds["float32"]:
                return f"Its {output} is wrong by {error:.1e} of the largest value ({name})."
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
        helper.make_node("ToChannelsLast", ["x"], ["x_last"], domain=lists),
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
        helper.make_node("ToChannelsFirst", ["y_last"], ["channels_last"], domain=lists),
        helper.make_node("ChannelMeansNhwc", ["y_last"], ["means"], domain=lists),
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
    means = y.mean((2, 3))[:, None, None]  # (N, 1, 1, M)
    wanted = {"selection": selection, "literal": y, "channels_last": y, "means": means}
    return _model(nodes, constants, wanted, inputs), wanted, inputs


def _quantized_case() -> tuple[
    onnx.ModelProto, dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]
]:
    """The 8-bit convolutions, channels last; what they must give is exact in float32."""
    rng = np.random.default_rng(2)
    n, c, m, h, w = _SIZES.values()
    x = rng.integers(0, 256, (n, h, w, c)).astype(np.uint8)
    base = rng.integers(0, 256, (n, h, w, m)).astype(np.uint8)
    weights = rng.integers(-127, 128, (m, c, 3, 3)).astype(np.int8)
    bias = rng.integers(-999, 1000, m).astype(np.int32)
    selection = rng.integers(0, 2, (n, 1, h, w)).astype(np.int32)

    whole = _first(x.astype(np.float32) - _ZERO)
    nothing = np.zeros((n, m, h, w), np.float32)
    sums = PERFORATED_CONV.reference(
        whole, selection, weights.astype(np.float32), bias.astype(np.float32), nothing,
        branch=1, mode=0, **_CONV,
    )  # fmt: skip
    step = np.float32(_STEPS["x"]) * np.float32(_STEPS["w"])
    grain = np.float32(_STEPS["y"])
    rounded = np.clip(np.rint(sums * (step / grain)) + _ZERO, 0, 255)
    taken, own = selection == 1, _first(base.astype(np.float32))
    wanted = {
        "rounded": np.where(taken, rounded, own).astype(np.uint8),
        "summed": np.where(taken, sums * step, (own - _ZERO) * grain),
    }

    constants: dict[str, npt.NDArray[Any]] = {"w": weights, "w0": np.zeros((), np.int8), "b": bias}
    for name in ("x", "y"):
        constants |= {f"{name}1": np.array(_STEPS[name], np.float32)}
        constants |= {f"{name}0": np.array(_ZERO, np.uint8)}
    constants["w1"] = np.array(_STEPS["w"], np.float32)
    about = {name: [f"{name}1", f"{name}0"] for name in "xwy"}
    lists, attributes = "pagdeploy.cpu", {**_CONV, "mode": 0, "inactive": 0}
    given, ends = ["x", *about["x"], "w", *about["w"]], ["b", "base", *about["y"], "active"]
    nodes = [
        helper.make_node("ActivePixels", ["selection"], ["active"], domain=lists, branch=1),
        helper.make_node(
            "QLinearPerforatedConvNhwc", [*given, *about["y"], *ends], ["rounded_last"],
            domain=lists, **attributes,
        ),
        helper.make_node(
            "QLinearPerforatedConvNhwcFloat", [*given, *ends], ["summed_last"],
            domain=lists, **attributes,
        ),
        *(
            helper.make_node("Transpose", [f"{name}_last"], [name], perm=[0, 3, 1, 2])
            for name in wanted
        ),
    ]  # fmt: skip
    inputs: dict[str, npt.NDArray[Any]] = {"x": x, "base": base, "selection": selection}
    return _model(nodes, constants, wanted, inputs), wanted, inputs


def _first(last: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, H, W, C) as (N, C, H, W)."""
    return last.transpose(0, 3, 1, 2)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, npt.NDArray[Any]],
    outputs: dict[str, npt.NDArray[Any]],
    inputs: dict[str, npt.NDArray[Any]],
) -> onnx.ModelProto:
    def values(arrays: dict[str, npt.NDArray[Any]]) -> list[onnx.ValueInfoProto]:
        types = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in arrays.items()}
        return [helper.make_tensor_value_info(k, types[k], v.shape) for k, v in arrays.items()]

    held = [numpy_helper.from_array(v, name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "self_test", values(inputs), values(outputs), held)
    domains = (("", 17), ("pagdeploy", 1), ("pagdeploy.cpu", 1))
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


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
