"""Element types of values, and which of them an operator's schema ties together."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from pagdeploy.ops.derive import register_schemas


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is known to be a float32 tensor; a sequence of such is none."""
    return _tensor_type(value) == ir.DataType.FLOAT


def _tensor_type(value: ir.Value | None) -> ir.DataType | None:
    return value.dtype if value is not None and isinstance(value.type, ir.TensorType) else None


class TypeVariables:
    """The type variable of each input and output that a node has, by index.

    Attributes:
        inputs: Such as {0: "T", 1: "tensor(int64)"}: some have a type instead of a variable.
        outputs: Likewise.
        allowed: The types that each variable may stand for.
    """

    def __init__(self, node: ir.Node, schema: onnx.defs.OpSchema) -> None:
        self.inputs = _variables(list(schema.inputs), node.inputs)
        self.outputs = _variables(list(schema.outputs), node.outputs)
        self.allowed = {v.type_param_str: v.allowed_type_strs for v in schema.type_constraints}


def type_variables(node: ir.Node, opset: int) -> TypeVariables | None:
    """What the schema at that opset says of a node; None if there is no schema."""
    try:
        return TypeVariables(node, onnx.defs.get_schema(node.op_type, opset, node.domain))
    except onnx.defs.SchemaError:
        return None  # a function of the model's own, or an operator of a runtime


def _variables(
    formal: list[onnx.defs.OpSchema.FormalParameter], values: Sequence[ir.Value | None]
) -> dict[int, str]:
    # The last formal parameter of a variadic operator stands for all that follow.
    return {
        index: formal[min(index, len(formal) - 1)].type_str
        for index, value in enumerate(values)
        if value is not None and value.name != ""  # left out
    }


def infer_missing_types(model: ir.Model) -> None:
    """Find out the element types of values, in subgraphs too, where some are unknown."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    if all(value.dtype is not None for node in nodes for value in node.outputs if value.name):
        return
    register_schemas()
    # Not onnx_ir's own pass: it insists on types that an operator has at the model's opset.
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph
    _take_types(model, model.graph, inferred)


def _take_types(model: ir.Model, graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Take the types that are missing from the same graph after inference."""
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for node, same in zip(graph, inferred.node, strict=True):
        for attribute in same.attribute:
            inner = node.attributes.get(attribute.name)
            if inner is not None and inner.type == ir.AttributeType.GRAPH:
                _take_types(model, inner.as_graph(), attribute.g)
        for value in node.outputs:
            if not value.name or value.dtype is not None:
                continue
            number = types.get(value.name)
            found = ir.DataType(number) if number else _bound_type(model, value)
            if found is not None:
                value.type = ir.TensorType(found)


def _bound_type(model: ir.Model, value: ir.Value) -> ir.DataType | None:
    """The type of the operands that share a type variable with a result.

    ONNX's inference knows nothing of operators that a function alone defines, such as
    GroupNormalization, nor of what follows them.
    """
    node, index = value.producer(), value.index()
    assert node is not None and index is not None, "the results of nodes are asked for"
    variables = type_variables(node, model.opset_imports.get(node.domain, 1))
    if variables is None:
        return None
    bound = {
        _tensor_type(node.inputs[i])
        for i, name in variables.inputs.items()
        if name == variables.outputs[index]
    }
    return bound.pop() if len(bound) == 1 else None
