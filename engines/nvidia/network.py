"""From an ONNX model to TensorRT's network, through NVIDIA's own parser, and what it made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pagdeploy.engines.nvidia.log import Log, first_line
from pagdeploy.errors import BuildFailed
from pagdeploy.ops import DOMAIN

if TYPE_CHECKING:
    import onnx

# TensorRT's name of an element type -> ONNX's. An INT64 or BOOL may come out as INT32: TensorRT 8
# has no other integers, and neither type is ever computed with in half precision.
_ELEMENT_TYPES = {
    "FLOAT": "FLOAT",
    "HALF": "FLOAT16",
    "BF16": "BFLOAT16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
_FLOATS = {"FLOAT", "FLOAT16", "BFLOAT16"}


def parse_network(trt: Any, builder: Any, log: Log, model: bytes) -> Any:
    """The network of a lowered model; its types are those that the model writes.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        builder: Its Builder.
        log: The builder's logger.
        model: A serialized ModelProto without function bodies of ours.

    Raises:
        BuildFailed: the parser refuses a node; or a node of ours did not become a plugin; or an
            input, an output or a floating-point value has another type than in the model.
    """
    import onnx

    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise _refusal(trt, parser)
    proto = onnx.ModelProto.FromString(model)
    _require_plugins(trt, network, proto)
    _require_types(trt, network, proto)
    return network


def runtime_name(trt: Any) -> str:
    """What to call it in a sentence: "TensorRT 10.16.1" or "TensorRT-RTX 1.7.1.116"."""
    kind = "TensorRT-RTX" if "rtx" in trt.__name__ else "TensorRT"
    return f"{kind} {trt.__version__}"


def strongly_typed(trt: Any) -> bool:
    """Whether this TensorRT can take the model's types as orders: from 10 on it can."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def plugin_layers(trt: Any, network: Any) -> list[str]:
    """Names of the layers that are plugins; the parser names a layer after its node."""
    kinds = [
        getattr(trt.LayerType, kind)
        for kind in ("PLUGIN", "PLUGIN_V2", "PLUGIN_V3")
        if hasattr(trt.LayerType, kind)
    ]
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [layer.name for layer in layers if layer.type in kinds]


def custom_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of our nodes in a model."""
    return [node.name for node in model.graph.node if node.domain == DOMAIN]


def _creation_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if strongly_typed(trt):
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH)


def _refusal(trt: Any, parser: Any) -> BuildFailed:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return BuildFailed(
            f"The ONNX parser of {runtime_name(trt)} refuses the model without a reason.",
            remedy="See what it logs with -vv.",
        )
    first = errors[0]
    text = first_line(first.desc())
    node = getattr(first, "node_operator", lambda: "")() or "a node"
    name = getattr(first, "node_name", lambda: "")()
    where = f"{node} {name!r}" if name else str(node)
    if "lugin" in text and "not found" in text and node in ("PAGGate", "PerforatedConv"):
        return BuildFailed(
            f"{runtime_name(trt)} finds no plugin for the node {where}.",
            remedy="See which plugin libraries are here with 'pagdeploy doctor', or build with"
            " --lowering dense, which needs none.",
        )
    return BuildFailed(
        f"The ONNX parser of {runtime_name(trt)} refuses {where} ({text}).",
        remedy="See all that it says with -vv, or export the model without it.",
    )


def _require_plugins(trt: Any, network: Any, model: onnx.ModelProto) -> None:
    """A function body or a built-in op in a plugin's place computes everything, and silently."""
    became = set(plugin_layers(trt, network))
    for name in custom_nodes(model):
        if name not in became:
            raise BuildFailed(
                f"The node {name!r} did not become a plugin layer in {runtime_name(trt)}.",
                remedy="Update the plugin library, or build with --lowering dense.",
            )


def _require_types(trt: Any, network: Any, model: onnx.ModelProto) -> None:
    """An engine that is silently of another precision passes every test but the stopwatch."""
    written = written_types(model)
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    inner = [] if not strongly_typed(trt) else _layer_outputs(network)
    for tensor in [*tensors, *inner]:
        asked = written.get(tensor.name)
        got = _ELEMENT_TYPES.get(tensor.dtype.name, tensor.dtype.name)
        if asked in _FLOATS and got != asked:
            raise BuildFailed(
                f"{runtime_name(trt)} computes {tensor.name!r} in {got}, not in {asked}.",
                remedy="Build with --precision fp32, and report the model.",
            )


def _layer_outputs(network: Any) -> list[Any]:
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [layer.get_output(k) for layer in layers for k in range(layer.num_outputs)]


def written_types(model: onnx.ModelProto) -> Mapping[str, str]:
    """ONNX's name of the element type of every value that the model types."""
    import onnx

    graph = model.graph
    return {
        value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
