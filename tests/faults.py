"""Faults to plant in a lowered engine: what a compiler or a runtime could get wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

CHANNELS = 6

# Two gates, of two and of three branches; the second one's convolutions read each other's pixels.
NETWORK = """
<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
network (float[n, 3, h, w] image) => (float[n, 4, h, w] depth)
{
    stem_out = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, stem_w, stem_b)
    stem_relu = Relu (stem_out)
    logits1 = Conv <kernel_shape = [1, 1]> (stem_relu, gate1_w)
    selection1 = pagdeploy.PAGGate (logits1)
    refined1 = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
        pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 1,
        alpha = 0.01> (stem_relu, selection1, refine1_w, refine1_b, stem_relu)
    mix_out = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], dilations = [1, 1]>
        (refined1, mix_w, mix_b)
    mix_relu = Relu (mix_out)
    joined = Add (mix_relu, stem_relu)
    logits2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (joined, gate2_w)
    selection2 = pagdeploy.PAGGate (logits2)
    refined2 = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
        pads = [2, 2, 2, 2], dilations = [2, 2], group = 1, branch = 1, mode = 0, activation = 0,
        alpha = 0.0> (joined, selection2, refine2_w, refine2_b, joined)
    refined3 = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
        pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, branch = 2, mode = 0, activation = 0,
        alpha = 0.0> (joined, selection2, refine3_w, refine3_b, refined2)
    depth = Conv <kernel_shape = [1, 1]> (refined3, head_w, head_b)
}
"""
NAMES = (
    "stem stem/Relu gate1/head gate1 refine1 mix mix/Relu join gate2/head gate2 refine2 refine3"
    " head"
).split()
_SIZES = {"stem": (CHANNELS, 3, 3), "gate1": (2, CHANNELS, 1), "gate2": (3, CHANNELS, 3)}
_SIZES |= dict.fromkeys(("refine1", "mix", "refine2", "refine3"), (CHANNELS, CHANNELS, 3))
_SIZES["head"] = (4, CHANNELS, 1)


def network() -> onnx.ModelProto:
    """A small portable model whose every branch is taken somewhere."""
    model = onnx.parser.parse_model(NETWORK)
    rng = np.random.default_rng(0)
    for name, node in zip(NAMES, model.graph.node, strict=True):
        node.name = name
    for layer, (outputs, inputs, side) in _SIZES.items():
        shape = (outputs, inputs, side, side)
        weight = rng.normal(0, 1 / np.sqrt(inputs * side * side), shape)
        model.graph.initializer.append(tensor(f"{layer}_w", weight - weight.mean()))
        if not layer.startswith("gate"):
            model.graph.initializer.append(tensor(f"{layer}_b", rng.normal(0, 0.1, outputs)))
    return onnx.shape_inference.infer_shapes(model)


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    """A float32 initializer."""
    return numpy_helper.from_array(array.astype(np.float32), name)


def weight_of(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """The initializer of that name."""
    return next(each for each in model.graph.initializer if each.name == name)


def scale_weight(model: onnx.ModelProto, name: str, factor: float) -> None:
    """Scale one weight, in place."""
    held = weight_of(model, name)
    held.CopyFrom(tensor(name, numpy_helper.to_array(held) * factor))


def wrong_dilation(engine: onnx.ModelProto, layer: str) -> None:
    """A layer reads pixels twice as far apart, at the same size of its result."""
    found = [n for n in _nodes(engine.graph) if n.name.split("/")[0] == layer]
    found = [n for n in found if any(a.name == "dilations" and list(a.ints) for a in n.attribute)]
    assert found, f"{layer} is computed by something that has no dilations"
    for node in found:
        for attribute in node.attribute:
            if attribute.name in ("dilations", "pads"):
                attribute.ints[:] = [2 * size for size in attribute.ints]


def stale_weight(engine: onnx.ModelProto, portable: onnx.ModelProto, name: str) -> None:
    """A layer has the weights of an earlier checkpoint, in whatever order the engine holds them."""
    values = np.sort(numpy_helper.to_array(weight_of(portable, name)), axis=None)
    count = 0
    for held in _constants(engine.graph):
        array = numpy_helper.to_array(held)
        if array.size == values.size and np.array_equal(np.sort(array, axis=None), values):
            noise = np.random.default_rng(1).normal(0, 0.1, array.shape) * array.std()
            held.CopyFrom(numpy_helper.from_array((array + noise).astype(array.dtype), held.name))
            count += 1
    assert count, f"the engine holds no weights of {name}"


def larger_steps(engine: onnx.ModelProto, layer: str, factor: float = 1.5) -> None:
    """The weights of an int8 layer are read with steps that are larger by a factor."""
    held = {each.name: each for each in engine.graph.initializer}
    found = [
        node
        for node in engine.graph.node
        if node.op_type == "DequantizeLinear" and node.name.startswith(f"{layer}/")
        if node.input[0] in held and held[node.input[0]].data_type == onnx.TensorProto.INT8
    ]
    assert found, f"{layer} has no weights of 8 bits"
    for node in found:
        steps = numpy_helper.to_array(held[node.input[1]]) * factor
        engine.graph.initializer.append(tensor(f"{node.name}.wrong", steps))
        node.input[1] = f"{node.name}.wrong"


def reversed_ties(engine: onnx.ModelProto, selection: str) -> None:
    """A gate gives an exact tie to the highest index."""
    gate = producer(engine, selection)
    if gate.op_type == "PAGGate":
        last = helper.make_node(
            "ArgMax", [gate.input[0]], ["last"], axis=1, keepdims=1, select_last_index=1
        )
        cast = helper.make_node("Cast", ["last"], [selection], to=onnx.TensorProto.INT32)
        _replace(engine, gate, [last, cast])
        return
    (argmax,) = [n for n in engine.graph.node if n.output[0] == gate.input[0]]
    assert argmax.op_type == "ArgMax"
    next(a for a in argmax.attribute if a.name == "select_last_index").i = 1


def shifted_decision(engine: onnx.ModelProto, selection: str) -> None:
    """A gate writes its decision one pixel to the right."""
    node = producer(engine, selection)
    _rename_output(node, selection, "unshifted")
    _insert_behind(engine, node, _rolled("unshifted", selection, axis=3))


def shifted_mask(engine: onnx.ModelProto, selection: str) -> None:
    """What reads a decision takes it for that of the pixel beside."""
    node = producer(engine, selection)
    _reroute(engine.graph, selection, "shifted")
    _insert_behind(engine, node, _rolled(selection, "shifted", axis=3))


def swapped_branches(engine: onnx.ModelProto, selection: str) -> None:
    """What reads a decision between two branches takes one for the other."""
    node = producer(engine, selection)
    _reroute(engine.graph, selection, "swapped")
    one = numpy_helper.from_array(np.array(1, np.int32), "swapping")
    engine.graph.initializer.append(one)
    _insert_behind(engine, node, [helper.make_node("Sub", ["swapping", selection], ["swapped"])])


def off_by_one_at_the_border(engine: onnx.ModelProto, value: str) -> None:
    """The last column of a map is that before it."""
    present = {name for node in engine.graph.node for name in node.output}
    name, axis = (value, 3) if value in present else (f"{value}.nhwc", 2)
    node = producer(engine, name)
    _rename_output(node, name, "whole")
    slices = [("inner", 0, -1, "whole"), ("last", -1, 2**31, "inner")]
    nodes: list[onnx.NodeProto] = []
    for made, first, end, source in slices:
        numbers = {"from": first, "to": end, "along": axis}
        for role, number in numbers.items():
            held = numpy_helper.from_array(np.array([number], np.int64), f"{made}.{role}")
            engine.graph.initializer.append(held)
        operands = [source, *(f"{made}.{role}" for role in numbers)]
        nodes.append(helper.make_node("Slice", operands, [made]))
    nodes.append(helper.make_node("Concat", ["inner", "last"], [name], axis=axis))
    _insert_behind(engine, node, nodes)


def producer(model: onnx.ModelProto, value: str) -> onnx.NodeProto:
    """The node of the main graph that computes a value."""
    return next(node for node in model.graph.node if value in node.output)


def _rolled(source: str, result: str, axis: int) -> list[onnx.NodeProto]:
    """(N, 1, H, W) -> the same, one pixel further; the first takes the last one's."""
    parts = {"body": (0, -1), "tail": (-1, 2**31)}
    nodes = []
    for made, (first, end) in parts.items():
        numbers = {"from": first, "to": end, "along": axis}
        for role, number in numbers.items():
            value = numpy_helper.from_array(np.array([number], np.int64))
            nodes.append(helper.make_node("Constant", [], [f"{result}.{made}.{role}"], value=value))
        operands = [source, *(f"{result}.{made}.{role}" for role in numbers)]
        nodes.append(helper.make_node("Slice", operands, [f"{result}.{made}"]))
    operands = [f"{result}.tail", f"{result}.body"]
    return [*nodes, helper.make_node("Concat", operands, [result], axis=axis)]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in _nodes(graph):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from attribute.g.initializer


def _reroute(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in _nodes(graph):
        node.input[:] = [new if name == old else name for name in node.input]


def _rename_output(node: onnx.NodeProto, old: str, new: str) -> None:
    node.output[:] = [new if name == old else name for name in node.output]


def _insert_behind(
    model: onnx.ModelProto, node: onnx.NodeProto, added: list[onnx.NodeProto]
) -> None:
    _replace(model, node, [node, *added])


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, by: list[onnx.NodeProto]) -> None:
    kept: list[onnx.NodeProto] = []
    for each in model.graph.node:
        kept += by if each is node else [each]
    # Copies: what the list holds is gone once it is emptied.
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del model.graph.node[:]
    model.graph.node.extend(kept)
