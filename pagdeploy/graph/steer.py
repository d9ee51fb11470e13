"""Decisions given from outside, in the flow of the graph, for timing.

    Before: logits -> gate -> selection -> convolution
    After:  logits -> gate -> own -> Where(own >= 0, forced, own) -> selection -> convolution

With `gates.force_selections` nothing waits for a gate, and it may run at any time. onnxruntime then
runs all of them at the end and keeps the features that they decide on until then: 1.4 to 2.3 times
the memory of the network as it is. Here the convolution still waits for its gate, and no runtime
knows that it ignores what that says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagdeploy.graph.gates import OWN

if TYPE_CHECKING:
    import onnx

FORCED = ".forced"
"""Suffix of the input that takes the place of a gate's decision."""


def steer(model: onnx.ModelProto, selections: Iterable[str]) -> onnx.ModelProto:
    """A copy whose selections are int32 inputs, of their names with `FORCED` behind.

    Shapes stay as they are written: onnxruntime infers fewer across an If, and joins a sum to its
    convolution only where both are known to be of one shape.

    Args:
        model: Lowered.
        selections: Names of values; those that its main graph does not compute are left out.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    makers = {name: node for node in copy.graph.node for name in node.output}
    first = numpy_helper.from_array(np.array(0, np.int32), f"first branch{FORCED}")
    copy.graph.initializer.append(first)
    shapes = {
        value.name: value.type.tensor_type.shape
        for value in (*copy.graph.value_info, *copy.graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    after: dict[str, list[onnx.NodeProto]] = {}
    for name in selections:
        if name not in makers:
            continue
        maker, own, decided, given = makers[name], name + OWN, f"{name}.decided", name + FORCED
        maker.output[list(maker.output).index(name)] = own
        axes = [f"{given}.{axis}" for axis in "nchw"]
        forced = helper.make_tensor_value_info(given, onnx.TensorProto.INT32, axes)
        if name in shapes:
            forced.type.tensor_type.shape.CopyFrom(shapes[name])
        copy.graph.input.append(forced)
        after[own] = [  # named as the gate, so that its times are found
            helper.make_node("GreaterOrEqual", [own, first.name], [decided], f"{maker.name}/own"),
            helper.make_node("Where", [decided, given, own], [name], f"{maker.name}/forced"),
        ]
    nodes = []
    for node in copy.graph.node:
        nodes += [node, *(each for output in node.output for each in after.get(output, []))]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
