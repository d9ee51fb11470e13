"""Other dense engines, where they are installed: OpenVINO, and torch.compile."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.float32]
Run = Callable[[], Array]
_NEEDS = {"OpenVINO": "openvino", "torch.compile": "torch"}
# Read when the OpenMP runtime is loaded: idle threads of torch must not spin while others run.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


def installed_peers() -> dict[str, bool]:
    """The engines by name, and whether they are here."""
    return {name: importlib.util.find_spec(module) is not None for name, module in _NEEDS.items()}


def dense_peers(model: onnx.ModelProto, x: Array, threads: int) -> dict[str, Run]:
    """What computes a dense model of `cpu.blocks` in each engine that is here.

    Args:
        model: Of Conv, Relu, Clip and Add, one after the other.
        x: Its input, (1, C, H, W).
        threads: Of each engine.
    """
    make = {"OpenVINO": _openvino, "torch.compile": _torch}
    return {name: make[name](model, x, threads) for name, here in installed_peers().items() if here}


def _openvino(model: onnx.ModelProto, x: Array, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # or it takes bfloat16 where the processor has it
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run() -> Array:
        request.infer()
        return np.asarray(request.get_output_tensor().data)

    return run


def _torch(model: onnx.ModelProto, x: Array, threads: int) -> Run:
    import torch
    import torch._inductor.config

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True  # weights are constants, as they are for the others
    given = torch.from_numpy(x)
    compiled = torch.compile(_module_of(model))

    def run() -> Array:
        with torch.inference_mode():
            y: Array = compiled(given).numpy()
        return y

    run()
    return run


def _module_of(model: onnx.ModelProto) -> object:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, tensor in enumerate(model.graph.initializer):
                array = torch.from_numpy(numpy_helper.to_array(tensor).copy())
                self.register_buffer(f"constant{number}", array)
            self.names = [tensor.name for tensor in model.graph.initializer]
            self.steps = [
                (node.op_type, list(node.input), node.output[0], _attributes(node))
                for node in model.graph.node
            ]

        def forward(self, x: Tensor) -> Tensor:
            values = {name: getattr(self, f"constant{n}") for n, name in enumerate(self.names)}
            values["x"] = x
            for op_type, inputs, output, attributes in self.steps:
                operands = [values[name] for name in inputs]
                if op_type == "Conv":
                    values[output] = F.conv2d(
                        *operands,
                        padding=attributes["pads"][:2],
                        dilation=attributes["dilations"],
                        groups=attributes["group"],
                    )
                elif op_type == "Clip":
                    values[output] = F.relu6(operands[0])
                elif op_type == "Relu":
                    values[output] = F.relu(operands[0])
                else:
                    values[output] = operands[0] + operands[1]
            return values["y"]

    return Dense().eval()


def _attributes(node: onnx.NodeProto) -> Mapping[str, object]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
