"""What an ONNX file holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class PerforatedRow:
    """One perforated convolution of a model."""

    name: str
    kernel: str
    strides: str
    dilations: str
    group: int
    channels: str
    branch: int
    mode: str
    activation: str
    gate: str


@dataclass(frozen=True)
class ModelSummary:
    """What an ONNX file holds.

    Attributes:
        opset: Of the default domain.
        ir_version: Of the file.
        form: "portable" (our nodes with bodies), "stripped" (our nodes alone) or "plain".
        producer: Who wrote it.
        inputs: Name and type, as text.
        outputs: Name and type, as text.
        ops: Number of nodes by op.
        gates: Names of the gates.
        perforated: One row per perforated convolution.
        parameters: Number of weights.
    """

    opset: int
    ir_version: int
    form: str
    producer: str
    inputs: list[str]
    outputs: list[str]
    ops: dict[str, int]
    gates: list[str]
    perforated: list[PerforatedRow]
    parameters: int


def summarize_model(path: Path) -> ModelSummary:
    """Look into an ONNX file.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not ONNX, or it is damaged.
    """
    from pagdeploy.graph.read import read_model

    return _summary(read_model(path))


def _summary(model: onnx.ModelProto) -> ModelSummary:
    import numpy as np

    from pagdeploy.graph.gates import gates_of
    from pagdeploy.ops import DOMAIN

    ours = [node for node in model.graph.node if node.domain == DOMAIN]
    bodies = any(function.domain == DOMAIN for function in model.functions)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    initial = set(shapes)
    gates = {gate.selection: gate.name for gate in gates_of(model)}
    return ModelSummary(
        opset=next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        form=("portable" if bodies else "stripped") if ours else "plain",
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=[_type(value) for value in model.graph.input if value.name not in initial],
        outputs=[_type(value) for value in model.graph.output],
        ops=dict(
            Counter(
                f"{node.domain}::{node.op_type}" if node.domain else node.op_type
                for node in model.graph.node
            ).most_common()
        ),
        gates=list(gates.values()),
        perforated=[_row(node, shapes, gates) for node in ours if node.op_type == "PerforatedConv"],
        parameters=sum(int(np.prod(shape)) for shape in shapes.values()),
    )


def _row(
    node: onnx.NodeProto, shapes: dict[str, list[int]], gates: dict[str, str]
) -> PerforatedRow:
    import onnx

    from pagdeploy.ops import Activation, Mode

    values: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    weight = shapes.get(node.input[2], [])
    channels = f"{weight[1] * values['group']} -> {weight[0]}" if weight else "computed"

    def sizes(name: str) -> str:
        return "x".join(map(str, values[name]))

    return PerforatedRow(
        name=node.name,
        kernel=sizes("kernel_shape"),
        strides=sizes("strides"),
        dilations=sizes("dilations"),
        group=values["group"],
        channels=channels,
        branch=values["branch"],
        mode=Mode(values["mode"]).name.lower(),
        activation=Activation(values["activation"]).name.lower(),
        gate=gates.get(node.input[1], node.input[1]),
    )


def _type(value: onnx.ValueInfoProto) -> str:
    import onnx

    tensor = value.type.tensor_type
    sizes = [
        dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?")
        for dim in tensor.shape.dim
    ]
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{value.name}: {dtype} ({', '.join(sizes)})"
