"""What in a graph draws random numbers, and what depends on them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of

UNIFORM = frozenset({"RandomUniform", "RandomUniformLike"})
DRAWING = UNIFORM | {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"}
_OF_SHAPES = frozenset({"RandomNormalLike", "RandomUniformLike", "Shape", "Size"})


def draws(node: ir.Node) -> bool:
    """Whether a node draws random numbers itself; a Dropout does where it may be in training."""
    if node.domain:
        return False
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = constant_of(node.inputs[2])
        return training is None or bool(training.any())
    return node.op_type in DRAWING


def drawing_nodes(model: ir.Model) -> list[ir.Node]:
    """Every node that draws random numbers, those of subgraphs and functions included."""
    scopes = [model.graph, *(function.graph for function in model.functions.values())]
    nodes = [node for scope in scopes for node in ir.traversal.RecursiveGraphIterator(scope)]
    return [node for node in nodes if draws(node)]


def sources_behind(graph: ir.Graph) -> dict[ir.Value, frozenset[ir.Node]]:
    """For each value of a graph that depends on random numbers the nodes of the graph that draw.

    A node that draws inside of a subgraph counts as the one that has the subgraph. What depends on
    the shape of a value alone depends on no number.
    """
    behind: dict[ir.Value, frozenset[ir.Node]] = {}
    for node in graph:
        found = {source for value in _read(node) for source in behind.get(value, ())}
        if any(draws(each) for each in (node, *_inside(node))):
            found.add(node)
        if found:
            behind.update(dict.fromkeys(node.outputs, frozenset(found)))
    return behind


def captured(node: ir.Node) -> list[ir.Value]:
    """What the subgraphs of a node read, values of their own included."""
    return [value for inner in _inside(node) for value in inner.inputs if value is not None] + [
        value for graph in _subgraphs(node) for value in graph.outputs
    ]


def _read(node: ir.Node) -> list[ir.Value]:
    if not node.domain and node.op_type in _OF_SHAPES:
        return []
    return [value for value in node.inputs if value is not None] + captured(node)


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for graph in _subgraphs(node):
        yield from ir.traversal.RecursiveGraphIterator(graph)
