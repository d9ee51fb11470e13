"""Pieces of a graph: what some values need, from its inputs or from other values on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pagdeploy.graph.perforate import UNREAD

if TYPE_CHECKING:
    import onnx

CHANNELS_LAST = ".nhwc"  # suffix of a value that holds a map of that name, channels last
_DEAD = 2  # of PerforatedConvNhwc's `inactive`: what is not in the list is left as it is
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
# What a pixel that nobody reads cannot get past: these read where it counts, or are masked.
_READERS = frozenset({"Conv", "PerforatedConv", "PerforatedConvNhwc", "PAGGate"})


def shared_values(reference: onnx.ModelProto, other: onnx.ModelProto) -> list[str]:
    """Float values that both main graphs compute, by the same name, in the reference's order.

    Values with pixels that nobody reads are left out: there a model may hold anything. Outputs
    of the graph are not.
    """
    floats = float_values(reference)
    present = {name for node in other.graph.node for name in node.output}
    outputs = {value.name for value in reference.graph.output}
    left_out = (_partly_unread(reference) | _partly_unread(other)) - outputs
    return [
        name
        for node in reference.graph.node
        for name in node.output
        if name in floats and name in present and name not in left_out
    ]


def with_channels_first(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that also computes named maps, where it holds them channels last alone.

    What read the map channels last reads it from the named one, so that the graph can be cut there;
    two transposes move numbers and change none.

    Args:
        model: Its main graph is looked at.
        names: Of maps, (N, C, H, W).
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {name for node in model.graph.node for name in node.output}
    wanted = {n + CHANNELS_LAST: n for n in names if n not in present}
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        for index, held in enumerate(node.output):
            if held not in wanted:
                continue
            first, made = wanted[held], held + ".made"
            node.output[index] = made
            nodes.append(onnx.helper.make_node("Transpose", [made], [first], perm=_TO_FIRST))
            nodes.append(onnx.helper.make_node("Transpose", [first], [held], perm=_TO_LAST))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _partly_unread(model: onnx.ModelProto) -> set[str]:
    """Values of which a lowering may leave pixels as they are, since nobody reads them."""
    found: set[str] = set()
    for node in model.graph.node:
        dead = any(a.name == "inactive" and a.i == _DEAD for a in node.attribute)
        dead |= any(entry.key == UNREAD for entry in node.metadata_props)
        if dead or (node.op_type not in _READERS and found.intersection(node.input)):
            found.update(node.output)
    return found


def between(model: onnx.ModelProto, starts: Sequence[str], ends: Sequence[str]) -> onnx.ModelProto:
    """The part of a model that computes some values from others.

    Args:
        model: Its main graph is cut; subgraphs stay whole.
        starts: Values that become inputs, where they are needed.
        ends: Values that become the outputs.
    """
    import onnx

    given = set(starts) - set(ends)
    kept = _needed(model.graph, given, ends)
    read = {name for node in kept for name in read_by(node)} | set(ends)
    known = _known(model.graph)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    for field in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(kept)
    graph.initializer.extend(i for i in model.graph.initializer if i.name in read)
    graph.input.extend(i for i in model.graph.input if i.name in read)
    graph.input.extend(_value(name, known) for name in starts if name in given & read)
    graph.output.extend(_value(name, known) for name in ends)
    return part


def starts_of(
    model: onnx.ModelProto, given: Sequence[str], candidates: Sequence[str], end: str
) -> list[str]:
    """Those of the candidates that a value is computed from with none of them in between.

    Args:
        model: Its main graph is looked at.
        given: Values behind which nothing is looked for.
        candidates: Values to name, in the order to name them in.
        end: The value.
    """
    others = set(candidates) - {end}
    part = _needed(model.graph, others | set(given), [end])
    read = {name for node in part for name in read_by(node)}
    return [name for name in candidates if name in others & read]


def alive(model: onnx.ModelProto, made: Sequence[str], watched: Sequence[str] = ()) -> list[str]:
    """Those of some values that the rest of the main graph, or its caller, still reads.

    Args:
        model: Its main graph is looked at.
        made: Values that are computed already, each with all that it needs.
        watched: What the caller reads besides the outputs.
    """
    ends = {*(value.name for value in model.graph.output), *watched}
    rest = _needed(model.graph, set(made), sorted(ends - {*made}))
    read = {name for node in rest for name in read_by(node)} | ends
    return [name for name in made if name in read]


def nodes_between(model: onnx.ModelProto, starts: Sequence[str], end: str) -> list[onnx.NodeProto]:
    """The nodes that compute a value from others, in order."""
    return _needed(model.graph, set(starts) - {end}, [end])


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, inside of its subgraphs too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from read_by(inner)
            yield from (value.name for value in graph.output)


def _needed(graph: onnx.GraphProto, given: set[str], ends: Sequence[str]) -> list[onnx.NodeProto]:
    wanted, kept = set(ends), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name in read_by(node) if name not in given)
    return kept[::-1]


def float_values(model: onnx.ModelProto) -> set[str]:
    """Values of the main graph that are known to be of a floating-point type."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    known = _known(model.graph)
    return {name for name, value in known.items() if value.type.tensor_type.elem_type in floats}


def _known(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}


def _value(name: str, known: dict[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """By name, dtype and rank alone: sizes of the whole must not bind a part of it."""
    import onnx

    value = onnx.ValueInfoProto(name=name)
    if name in known:
        value.CopyFrom(known[name])
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            size.dim_param = f"{name}.{axis}"
    else:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return value
