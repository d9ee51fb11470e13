"""Replacing one node by several, with names that lead back to where they came from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir import tape

from pagdeploy.ops import DOMAIN
from pagdeploy.ops.derive import register_schemas

Operand = ir.Value | npt.NDArray[np.generic]
_log = logging.getLogger("pagdeploy.passes")


def nodes_of(model: ir.Model, op_type: str, domain: str = DOMAIN) -> Iterator[ir.Node]:
    """Every node of one op, subgraphs included; the graph may be edited while iterating."""
    found = [
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.op_type == op_type and node.domain == domain
    ]
    return iter(found)


def skip(node: ir.Node, why: str) -> None:
    """Say why a pass leaves a node alone; shown by -v."""
    _log.info("%s (%s) stays: %s", node.name, node.op_type, why)


def constant_of(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array behind a value that is an initializer or a Constant, else None.

    An initializer that is a graph input as well is only a default, which a caller may override.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def weights_of(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """As `constant_of`, and also what a DequantizeLinear makes of constants."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return constant_of(value)
    quantized, scale, *rest = (constant_of(operand) for operand in node.inputs)
    zero = rest[0] if rest else np.zeros((), np.int8)
    if quantized is None or scale is None or zero is None:
        return None
    shape = [1] * quantized.ndim
    if scale.ndim:
        shape[node.attributes.get_int("axis", 1)] = -1
    steps = quantized.astype(np.int32) - zero.astype(np.int32).reshape(shape)
    wide = scale.astype(np.float32).reshape(shape)
    weights: npt.NDArray[np.generic] = (steps.astype(np.float32) * wide).astype(scale.dtype)
    return weights


def infer_missing_types(model: ir.Model) -> None:
    """Find out the element types of the main graph's values where some are unknown."""
    unknown = [v for node in model.graph for v in node.outputs if v.name and v.dtype is None]
    if not unknown:
        return
    register_schemas()
    # Not onnx_ir's own pass: it insists on types that an operator has at the model's opset.
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for value in unknown:
        if found := types.get(value.name or ""):
            value.type = ir.TensorType(ir.DataType(found))


def initializer(model: ir.Model, array: npt.NDArray[np.generic]) -> ir.Value:
    """An initializer of the main graph that holds the array; equal ones are shared."""
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
    shape = "x".join(map(str, array.shape)) or "scalar"
    name = f"{array.dtype}_{shape}_{digest}"
    initializers = model.graph.initializers
    if name not in initializers:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
            const_value=tensor,
        )
        model.graph.register_initializer(value)
    return initializers[name]


def insert_cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    """A Cast of the value right behind its producer, or before all nodes; returns its result."""
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}/Cast")
    insert_behind(graph, value, cast)
    (result,) = cast.outputs
    result.name, result.type, result.shape = name, ir.TensorType(dtype), value.shape
    return result


def insert_behind(graph: ir.Graph, value: ir.Value, *nodes: ir.Node) -> None:
    """Insert nodes right behind a value's producer, or before all nodes if it has none."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)


def is_zero(value: ir.Value | None) -> bool:
    """Whether a value is known to be zero everywhere."""
    array = constant_of(value)
    return array is not None and not np.any(array)


class Replacement:
    """The nodes that take one node's place.

    Operands are values or numpy arrays; arrays become initializers, shared if equal.

    Args:
        model: Owns the node, perhaps in a subgraph.
        node: The node to replace; it must have one output.
    """

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self._model = model
        self._node = node
        self._tape = tape.Tape()

    def op(
        self,
        op_type: str,
        *operands: Operand,
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Value:
        """Add one node and return its output."""
        inputs = [self.constant(o) if isinstance(o, np.ndarray) else o for o in operands]
        origin = self._node.name or self._node.outputs[0].name
        name = f"{origin}/{op_type}_{len(self._tape.nodes)}"
        value = self._tape.op(op_type, inputs, attributes, domain=domain, name=name)
        value.name = name
        return value

    def constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer of the main graph that holds the array."""
        return initializer(self._model, array)

    def finish(self, result: ir.Value) -> None:
        """Put the nodes in; `result` takes over the old output's name, type, shape and uses."""
        graph = self._node.graph
        assert graph is not None, "a node that is being replaced lies in a graph"
        ir.convenience.replace_nodes_and_values(
            graph, self._node, [self._node], self._tape.nodes, self._node.outputs, [result]
        )
