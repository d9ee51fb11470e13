"""The plain dense network: what a gated network would be if nobody had gated it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def open_gates(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every perforated convolution is an ordinary one, with nothing masked.

    It is another function than the gated network wherever a gate skips. The gates and what only
    they read are gone; of a chain of branches over one gate, the last one remains.

    Args:
        model: Portable.
    """
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.edit import Replacement, is_zero, nodes_of
    from pagdeploy.graph.read import name_nodes
    from pagdeploy.ops import Mode
    from pagdeploy.ops.derive import register_schemas
    from pagdeploy.passes import drop_unused
    from pagdeploy.passes.lower_dense import activate

    register_schemas()  # so that types are inferred through our nodes
    inferred = onnx.shape_inference.infer_shapes(model)
    name_nodes(inferred)
    opened = ir.from_proto(inferred)
    for node in nodes_of(opened, "PerforatedConv"):
        x, _, weight, bias, base = node.inputs
        assert x and weight and bias and base, "check_model refuses a node without its inputs"
        put = Replacement(opened, node)
        names = ("kernel_shape", "strides", "pads", "dilations", "group")
        geometry = {name: node.attributes[name].value for name in names}
        y = put.op("Conv", x, weight, bias, **geometry)  # (N, Co, Ho, Wo)
        if node.attributes.get_int("mode") == Mode.ADD and not is_zero(base):
            y = put.op("Add", base, y)
        put.finish(activate(put, y, node))
    _turn_images_on(opened)
    drop_unused.run(opened)
    return ir.to_proto(opened)


def _turn_images_on(model: ir.Model) -> None:
    """Let every expression that chooses image by image say what it says of an image that is on."""
    from pagdeploy.graph.branches import written
    from pagdeploy.graph.edit import Replacement, drop_dead
    from pagdeploy.graph.images import ImagePart, ImageParts

    parts = ImageParts(model)
    for node in reversed(list(model.graph)):  # a larger expression before those in it
        part = parts.ending_in(node) if node.graph is model.graph else None
        if isinstance(part, ImagePart):
            put = Replacement(model, node, "/on")
            dtype = node.outputs[0].dtype
            assert dtype is not None, "types are inferred"
            put.finish(written(put, part.on, dtype.numpy()))
            drop_dead(list(node.inputs))
