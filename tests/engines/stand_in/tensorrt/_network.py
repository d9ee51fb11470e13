"""Networks, and the parser that makes them of ONNX."""

from __future__ import annotations

from typing import Any

import onnx

from pagdeploy.ops.bodies import attach_bodies
from tensorrt._registry import Key, get_plugin_registry
from tensorrt._types import (
    MAJOR,
    Buffer,
    DataType,
    ILogger,
    LayerType,
    Strict,
    enumeration,
)

NetworkDefinitionCreationFlag = enumeration(
    "NetworkDefinitionCreationFlag",
    "EXPLICIT_BATCH" if MAJOR < 11 else "",
    "EXPLICIT_PRECISION" if MAJOR < 10 else "STRONGLY_TYPED",
)
_TYPES = {
    "FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16", "INT8": "INT8", "INT32": "INT32",
    "INT64": "INT64" if MAJOR >= 10 else "INT32", "BOOL": "BOOL", "UINT8": "UINT8",
    "DOUBLE": "FLOAT",
}  # fmt: skip
_LAYERS = {
    "Conv": "CONVOLUTION", "Cast": "CAST", "Relu": "ACTIVATION", "LeakyRelu": "ACTIVATION",
    "MaxPool": "POOLING", "Concat": "CONCATENATION", "ArgMax": "TOPK", "Shape": "SHAPE",
    "Constant": "CONSTANT", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE",
    "Where": "SELECT", "Reshape": "SHUFFLE", "Slice": "SLICE", "Round": "UNARY",
}  # fmt: skip
_NEWEST_OPSET = 17 if MAJOR < 10 else 24
_LACKING = {"NonZero"} if MAJOR < 10 else {"StringNormalizer"}


class ITensor(Strict):
    """A value of a network."""

    name: str
    dtype: DataType
    shape: tuple

    def __init__(self, name: str, dtype: DataType, shape: tuple) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class ILayer(Strict):
    """A step of a network."""

    name: str
    type: LayerType
    if MAJOR < 11:
        precision: DataType

    def __init__(self, name: str, type: LayerType, inputs: list, outputs: list) -> None:
        self.name, self.type = name, type
        self._inputs, self._outputs = inputs, outputs
        self._types: dict[int, DataType] = {}

    @property
    def num_inputs(self) -> int:
        """How many values it reads."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many values it makes."""
        return len(self._outputs)

    def get_input(self, index: int) -> ITensor | None:
        """One of them; None where an optional one is left out."""
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        """One of them."""
        return self._outputs[index]

    if MAJOR < 11:

        def set_output_type(self, index: int, dtype: DataType) -> None:
            """Ask for a type, where the network is weakly typed."""
            self._types[index] = dtype


class INetworkDefinition(Strict):
    """What the parser fills, and the builder reads."""

    def __init__(self, flags: int) -> None:
        self._strong = MAJOR >= 11 or bool(
            MAJOR >= 10 and flags >> int(NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1
        )
        if MAJOR < 10 and not flags >> int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH) & 1:
            raise ValueError("the parser wants networks of explicit batch")
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._layers: list[ILayer] = []
        self._model = onnx.ModelProto()

    @property
    def num_layers(self) -> int:
        """How many there are."""
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        """How many there are."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many there are."""
        return len(self._outputs)

    def get_layer(self, index: int) -> ILayer:
        """One of them."""
        return self._layers[index]

    def get_input(self, index: int) -> ITensor:
        """One of them."""
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        """One of them."""
        return self._outputs[index]


class ParserError(Strict):
    """Why a model is refused."""

    def __init__(self, text: str, node: onnx.NodeProto) -> None:
        self._text, self._node = text, node

    def desc(self) -> str:
        """The reason."""
        return self._text

    if MAJOR >= 10:

        def node_name(self) -> str:
            """Of the node."""
            return str(self._node.name)

        def node_operator(self) -> str:
            """Of the node."""
            return str(self._node.op_type)


class OnnxParser(Strict):
    """NVIDIA's parser."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        """How many there are."""
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        """One of them."""
        return self._errors[index]

    def parse(self, model: Buffer, path: str | None = None) -> bool:
        """Fill the network."""
        proto = onnx.ModelProto.FromString(bytes(model))  # type: ignore[call-overload]
        tensors = _tensors(proto)
        layers = self._network._layers
        for weight in proto.graph.initializer:
            layers.append(ILayer(weight.name, LayerType.CONSTANT, [], [tensors[weight.name]]))
        functions = {f.name for f in proto.functions} if MAJOR >= 10 else set()
        newest = max((o.version for o in proto.opset_import if o.domain == ""), default=1)
        for node in proto.graph.node:
            kind = _layer_type(node, functions)
            if kind is None or newest > _NEWEST_OPSET:
                text = "Plugin not found, are the plugin name, version, and namespace correct?\n"
                text = text if kind is None else f"opset {newest} is not supported\n"
                self._errors.append(ParserError(text, node))
                return False
            reads = [tensors.get(name) for name in node.input]
            makes = [tensors[name] for name in node.output if name]
            layers.append(ILayer(node.name, kind, reads, makes))
        weights = {weight.name for weight in proto.graph.initializer}
        network = self._network
        network._inputs = [tensors[v.name] for v in proto.graph.input if v.name not in weights]
        network._outputs = [tensors[v.name] for v in proto.graph.output]
        network._model = proto
        return True


def creator_of(node: onnx.NodeProto) -> Key:
    """Which creator the parser looks for."""
    told = {a.name: a.s.decode() for a in node.attribute if a.name.startswith("plugin_")}
    return node.op_type, told.get("plugin_version", "1"), told.get("plugin_namespace", "")


def _layer_type(node: onnx.NodeProto, functions: set[str]) -> Any:
    if creator_of(node) in get_plugin_registry():
        return LayerType.PLUGIN_V3 if MAJOR >= 10 else LayerType.PLUGIN_V2
    if node.op_type in functions:  # its body in its place
        return LayerType.IDENTITY
    if node.domain == "" and onnx.defs.has(node.op_type) and node.op_type not in _LACKING:
        return getattr(LayerType, _LAYERS.get(node.op_type, "ELEMENTWISE"))
    return None


def _tensors(model: onnx.ModelProto) -> dict[str, ITensor]:
    """Every value of the main graph, of the type that follows from inputs and operators."""
    bare = attach_bodies(model)
    del bare.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(bare).graph
    found = {
        value.name: ITensor(value.name, _type(value.type.tensor_type.elem_type), _shape(value))
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    for weight in graph.initializer:
        found[weight.name] = ITensor(weight.name, _type(weight.data_type), tuple(weight.dims))
    for node in graph.node:
        for name in filter(None, node.output):
            assert name in found, f"{node.op_type} {name} has no type"
    return found


def _type(number: int) -> Any:
    return getattr(DataType, _TYPES[onnx.TensorProto.DataType.Name(number)])


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
