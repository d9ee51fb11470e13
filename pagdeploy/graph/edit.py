"""Replacing one node by several, with names that lead back to where they came from."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir import tape

from pagdeploy.ops import DOMAIN

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


def explain(node: ir.Node, what: str) -> None:
    """Say what a pass found out about a node; shown by -v."""
    _log.info("%s (%s) %s", node.name, node.op_type, what)


def warn(node: ir.Node, what: str) -> None:
    """Say that a pass changed what the model computes; shown always."""
    _log.warning("%s (%s) %s.", node.name, node.op_type, what)


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


def initializer(model: ir.Model, array: npt.NDArray[np.generic]) -> ir.Value:
    """An initializer of the main graph that holds the array; equal ones are shared."""
    name, initializers = _name_of(array), model.graph.initializers
    if name not in initializers:
        model.graph.register_initializer(_constant(name, array))
    return initializers[name]


def _name_of(array: npt.NDArray[np.generic]) -> str:
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
    shape = "x".join(map(str, array.shape)) or "scalar"
    return f"{array.dtype}_{shape}_{digest}"


def _constant(name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    shape = ir.Shape(array.shape)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)


class FreshNames:
    """Names for new values, none of which a value of the graph or of its subgraphs has."""

    def __init__(self, graph: ir.Graph) -> None:
        values = [
            value
            for scope in (graph, *graph.subgraphs())
            for value in (*scope.inputs, *scope.initializers.values())
        ]
        values += [value for node in graph.all_nodes() for value in node.outputs]
        self._taken = {value.name for value in values}

    def like(self, name: str) -> str:
        """The name, or one that starts with it if it is taken; from now on it is."""
        numbered = (f"{name}.{number}" for number in itertools.count(2))
        fresh = next(n for n in itertools.chain([name], numbered) if n not in self._taken)
        self._taken.add(fresh)
        return fresh


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


def drop_dead(values: Sequence[ir.Value | None]) -> None:
    """Remove the nodes whose outputs nobody reads any more, from these values backwards."""
    pending = list(values)
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None or node.graph is None:
            continue
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            pending += node.inputs
            node.graph.remove(node, safe=True)


def is_zero(value: ir.Value | None) -> bool:
    """Whether a value is known to be zero everywhere."""
    array = constant_of(value)
    return array is not None and not np.any(array)


class Nodes:
    """Nodes in the making, with names that start with that of the node they come from.

    Operands are values or numpy arrays; arrays become initializers, shared if equal.
    """

    def __init__(self, model: ir.Model, origin: str) -> None:
        self._model, self._origin = model, origin
        self._tape = tape.Tape()

    def op(
        self,
        op_type: str,
        *operands: Operand | None,
        domain: str = "",
        **attributes: int | float | str | Sequence[int] | ir.Graph,
    ) -> ir.Value:
        """Add one node and return its output."""
        return self.ops(op_type, 1, *operands, domain=domain, **attributes)[0]

    def ops(
        self,
        op_type: str,
        outputs: int,
        *operands: Operand | None,
        domain: str = "",
        **attributes: int | float | str | Sequence[int] | ir.Graph,
    ) -> Sequence[ir.Value]:
        """Add one node and return all of its outputs."""
        inputs = [self.constant(o) if isinstance(o, np.ndarray) else o for o in operands]
        name = f"{self._origin}/{op_type}_{len(self._tape.nodes)}"
        values = self._tape.op_multi_out(
            op_type, inputs, attributes, num_outputs=outputs, domain=domain, name=name
        )
        for number, value in enumerate(values):
            value.name = f"{name}.{number}" if number else name
        return values

    def constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer of the main graph that holds the array."""
        return initializer(self._model, array)

    def copy(self, node: ir.Node, *operands: Operand | None) -> ir.Value:
        """Add a node like another one of one output, with other operands; returns its output."""
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        value = self.op(node.op_type, *operands, domain=node.domain, **attributes)
        value.type, value.shape = node.outputs[0].type, node.outputs[0].shape
        twin = value.producer()
        assert twin is not None, "a node was just added"
        twin.metadata_props.update(node.metadata_props)
        return value

    def made(self, value: ir.Value) -> bool:
        """Whether one of these nodes makes a value."""
        return any(value is output for node in self._tape.nodes for output in node.outputs)

    def branch(self, name: str, *, shares: bool = False) -> Branch:
        """The nodes of one branch of an If that is to be added here.

        Args:
            name: Of the branch.
            shares: Its constants lie where those of these nodes do.
        """
        outer = self if shares else None
        return Branch(self._model, f"{self._origin}/{name}_{len(self._tape.nodes)}", outer)


class Branch(Nodes):
    """One branch of an If; its constants lie in it, if they are not shared.

    onnxruntime chooses a layout for the weights of a convolution only if they lie in its graph.
    """

    def __init__(self, model: ir.Model, origin: str, outer: Nodes | None = None) -> None:
        super().__init__(model, origin)
        self._outer = outer
        self._constants: dict[str, ir.Value] = {}

    def constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer of the branch, or of what it shares with, that holds the array."""
        if self._outer is not None:
            return self._outer.constant(array)
        name = f"{self._origin}/{_name_of(array)}"
        if name not in self._constants:
            self._constants[name] = _constant(name, array)
        return self._constants[name]

    def graph(self, *results: ir.Value) -> ir.Graph:
        """The branch as an attribute of the If."""
        return ir.Graph(
            [],
            results,
            nodes=self._tape.nodes,
            initializers=list(self._constants.values()),
            name=self._origin,
        )


class Replacement(Nodes):
    """The nodes that take one node's place, or stand beside it.

    Args:
        model: Owns the node, perhaps in a subgraph.
        node: The node to replace; one of its outputs may be read.
        part: What is made, if a node of that name will be left to replace.
    """

    def __init__(self, model: ir.Model, node: ir.Node, part: str = "") -> None:
        super().__init__(model, (node.name or str(node.outputs[0].name)) + part)
        self._node = node

    def finish(self, result: ir.Value, output: ir.Value | None = None) -> None:
        """Put the nodes in; `result` takes over the old output's name, type, shape and uses.

        Args:
            result: Made by one of the nodes.
            output: Which one of several; nobody may read the others.
        """
        old = [output or self._node.outputs[0]]
        ir.convenience.replace_nodes_and_values(
            self._graph(), self._node, [self._node], self._tape.nodes, old, [result]
        )

    def put_in_front(self) -> None:
        """Put the nodes in front of the old one, which stays."""
        self._graph().insert_before(self._node, self._tape.nodes)

    def put_behind(self) -> None:
        """Put the nodes behind the old one, which stays."""
        self._graph().insert_after(self._node, self._tape.nodes)

    def _graph(self) -> ir.Graph:
        graph = self._node.graph
        assert graph is not None, "a node that others replace or join lies in a graph"
        return graph
