"""The order of the passes, per lowering. Read this first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pagdeploy.errors import UsageError
from pagdeploy.passes import (
    drop_unused,
    fold_batch_norm,
    lower_dense,
    lower_gate,
    lower_gather,
    share_equal_nodes,
    strip_bodies,
)

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger("pagdeploy.passes")

PIPELINES: dict[str, tuple[ModuleType, ...]] = {
    # Standard ONNX that computes only active pixels; what cannot be gathered is lowered densely.
    "gather": (
        strip_bodies,  # first: from here on a body could only disagree with the node
        fold_batch_norm,
        lower_gather,
        lower_dense,  # after gather: it takes what is left
        share_equal_nodes,  # after both: the convolutions of one selection share its pixel list
        lower_gate,  # after sharing, which keeps gates apart, so that each shows its decision
        drop_unused,
    ),
    # Every pixel computed, then chosen: what each runtime understands.
    "dense": (
        strip_bodies,
        fold_batch_norm,
        lower_dense,
        share_equal_nodes,
        lower_gate,
        drop_unused,
    ),
    # Our nodes stay; a plugin or an operator library computes them.
    "plugin": (
        strip_bodies,
        fold_batch_norm,
        share_equal_nodes,
        drop_unused,
    ),
}


def lower(
    model: onnx.ModelProto,
    lowering: str,
    on_pass: Callable[[str, int, float], None] | None = None,
) -> onnx.ModelProto:
    """Run one pipeline on a copy of the model.

    Args:
        model: A portable model, or any ONNX model.
        lowering: A key of `PIPELINES`.
        on_pass: Told of each pass: its name, its rewrites, its milliseconds.

    Raises:
        UsageError: there is no such lowering.

    Returns:
        The lowered model, its shapes inferred.
    """
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.read import name_nodes
    from pagdeploy.ops.derive import register_schemas

    register_schemas()  # so that shapes are inferred through our nodes
    if lowering not in PIPELINES:
        raise UsageError(
            f"There is no lowering {lowering!r}.", remedy=f"Choose one of: {', '.join(PIPELINES)}."
        )
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    name_nodes(inferred)
    module = ir.from_proto(inferred)
    for name, rewrites, milliseconds in run_passes(module, PIPELINES[lowering]):
        _log.info("%-18s %4d rewrites %8.1f ms", name, rewrites, milliseconds)
        if on_pass:
            on_pass(name, rewrites, milliseconds)
    return ir.to_proto(module)


def run_passes(module: object, passes: Sequence[ModuleType]) -> list[tuple[str, int, float]]:
    """Run passes in order; returns (name, rewrites, milliseconds) for each."""
    log = []
    for each in passes:
        start = time.perf_counter()
        rewrites = each.run(module)
        name = each.__name__.rsplit(".", 1)[-1]
        log.append((name, rewrites, (time.perf_counter() - start) * 1e3))
    return log
