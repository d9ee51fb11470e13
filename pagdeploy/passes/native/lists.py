"""The lists of pixels that the ops of the library take."""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import Nodes
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes.native.liveness import Where


def list_of(put: Nodes, node: ir.Node, where: Where, lists: dict[Where, ir.Value]) -> ir.Value:
    """int32 (n,): the list of the pixels that a convolution computes.

    Args:
        put: Where nodes go.
        node: The convolution; ours where whole images are listed.
        where: Its active pixels, or those that are read of it.
        lists: Those that exist; what is made is put there.
    """
    if where.images:
        selection = node.inputs[1]
        assert selection is not None, "check_model refuses missing inputs"
        where = Where(selection, where.branch)
    return listed(put, where, lists)


def listed(put: Nodes, where: Where, lists: dict[Where, ir.Value]) -> ir.Value:
    """int32 (n,): the list of some pixels, of `lists` or made and put there."""
    if where in lists:
        return lists[where]
    selection = where.selection
    if not where.reach:
        made = put.op("ActivePixels", selection, domain=CPU_DOMAIN, branch=where.branch)
    else:
        *rest, geometry = where.reach
        behind = listed(put, Where(selection, where.branch, tuple(rest)), lists)
        batch = put.op("Shape", selection, start=0, end=1)
        size = put.op("Concat", batch, put.op("Shape", selection, start=2, end=4), axis=0)
        made = put.op(
            "SupportPixels", behind, size, domain=CPU_DOMAIN,
            kernel_shape=list(geometry.kernel), strides=list(geometry.strides),
            pads=list(geometry.pads), dilations=list(geometry.dilations),
        )  # fmt: skip
    lists[where] = made
    return made
