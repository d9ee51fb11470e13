"""Two convolutions as one node where what lies between then never leaves the cache."""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of
from pagdeploy.ops import Mode
from pagdeploy.ops.native import CPU_DOMAIN

_CONV = "PerforatedConvNhwc"
_CACHED_BYTES = 256 * 1024  # of weights, beside a tile of rows in the L2 cache of most processors
_OF_THE_SECOND = ("mode", "activation", "alpha", "inactive")


def join(model: ir.Model) -> int:
    """Join a convolution and the pointwise one that alone reads it, if it pays; returns how many.

    Both compute the same pixels, so the second one reads nothing that the first leaves out. It
    pays behind a depthwise convolution, which computes little for what it writes, and where the
    weights of both stay in the cache.
    """
    count = 0
    for node in list(model.graph):
        first = _first_of_pair(node)
        if first is None:
            continue
        attributes = {name: attribute.value for name, attribute in first.attributes.items()}
        attributes["inner_activation"] = attributes["activation"]
        attributes["inner_alpha"] = attributes["alpha"]
        attributes |= {name: node.attributes[name].value for name in _OF_THE_SECOND}
        put = Replacement(model, node)
        result = put.op(
            "PerforatedConvPairNhwc", *first.inputs[:3], *node.inputs[1:],
            domain=CPU_DOMAIN, **attributes,
        )  # fmt: skip
        result.type, result.shape = node.outputs[0].type, node.outputs[0].shape
        put.finish(result)
        model.graph.remove(first, safe=True)
        count += 1
    return count


def _first_of_pair(node: ir.Node) -> ir.Node | None:
    """The convolution to join with a pointwise one that alone reads it."""
    if not _is_conv(node) or not _is_pointwise(node):
        return None
    x = node.inputs[0]
    first = None if x is None else x.producer()
    if x is None or first is None or not _is_conv(first):
        return None
    alone = len(x.uses()) == 1 and not x.is_graph_output()
    replaces = first.attributes.get_int("mode") == Mode.REPLACE
    same = list(first.inputs[4:]) == list(node.inputs[4:])
    pays = _is_depthwise(first) or _weight_bytes(first) + _weight_bytes(node) <= _CACHED_BYTES
    return first if alone and replaces and same and pays else None


def _is_conv(node: ir.Node) -> bool:
    return node.op_type == _CONV and node.domain == CPU_DOMAIN


def _is_pointwise(node: ir.Node) -> bool:
    each = {"kernel_shape": 1, "strides": 1, "pads": 0, "group": 1}
    values = {name: node.attributes[name].value for name in each}
    return values["group"] == 1 and all(
        set(values[name]) == {each[name]} for name in ("kernel_shape", "strides", "pads")
    )


def _weight_bytes(node: ir.Node) -> int:
    weight = constant_of(node.inputs[1])
    assert weight is not None, "only constant weights are lowered"
    return weight.nbytes


def _is_depthwise(node: ir.Node) -> bool:
    weight = constant_of(node.inputs[1])
    group = node.attributes.get_int("group")
    return weight is not None and group > 1 and weight.shape[:2] == (group, 1)
