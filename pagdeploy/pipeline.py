"""The order of the passes, per lowering. Read this first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.passes import (
    cast_precision,
    drop_unused,
    emulate_half,
    fold_batch_norm,
    insert_quantization,
    lower_dense,
    lower_gate,
    lower_gather,
    share_equal_nodes,
    strip_bodies,
    write_plugin_attributes,
)
from pagdeploy.precision import Precision

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger("pagdeploy.passes")

PIPELINES: dict[str, tuple[ModuleType, ...]] = {
    # Standard ONNX that computes only active pixels; what cannot be gathered is lowered densely.
    "gather": (
        strip_bodies,  # first: from here on a body could only disagree with the node
        fold_batch_norm,  # before the precision: folded weights are rounded once
        insert_quantization,  # before lowering, which takes our nodes apart
        cast_precision,
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
        insert_quantization,
        cast_precision,
        lower_dense,
        share_equal_nodes,
        lower_gate,
        drop_unused,
    ),
    # Our nodes stay; a plugin or an operator library computes them.
    "plugin": (
        strip_bodies,
        fold_batch_norm,
        insert_quantization,
        cast_precision,
        share_equal_nodes,
        write_plugin_attributes,
        drop_unused,
    ),
}
_FOR_PRECISION = (insert_quantization, cast_precision)  # 0 rewrites in float32


def lower(
    model: onnx.ModelProto,
    lowering: str,
    on_pass: Callable[[str, int, float], None] | None = None,
    *,
    precision: Precision = Precision(),  # noqa: B008  (frozen)
    emulated: bool = False,
) -> onnx.ModelProto:
    """Run one pipeline on a copy of the model.

    Args:
        model: A portable model, or any ONNX model.
        lowering: A key of `PIPELINES`.
        on_pass: Told of each pass: its name, its rewrites, its milliseconds.
        precision: What the lowered model computes in; its inputs and outputs keep their types.
        emulated: Compute what is of 16 bits in float32, and round it (`passes.emulate_half`).

    Raises:
        UsageError: there is no such lowering, or the model cannot be of that precision.
        BuildFailed: bfloat16 is asked for, and the model cannot be written at its opset.

    Returns:
        The lowered model, its types and shapes inferred.
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
    passes = PIPELINES[lowering] + ((emulate_half,) if emulated else ())
    for name, rewrites, milliseconds in run_passes(module, passes, precision):
        _log.info("%-18s %4d rewrites %8.1f ms", name, rewrites, milliseconds)
        if on_pass:
            on_pass(name, rewrites, milliseconds)
    lowered = ir.to_proto(module)
    if not precision.is_half:
        return lowered
    if not emulated:
        lowered = _at_opset(lowered, precision.opset)
    # A pass types what it casts; what is lowered after it gets its type from there.
    return onnx.shape_inference.infer_shapes(lowered)


def _at_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The model at that opset, or at its own if that is later."""
    import onnx
    from onnx import version_converter

    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) >= version:
        return model
    try:
        converted = version_converter.convert_version(model, version)
    except Exception as problem:  # the converter raises several types of its own
        raise BuildFailed(
            f"The model cannot be written at opset {version}, which bfloat16 needs ({problem}).",
            remedy=f"Export it at opset {version}, or ask for fp16.",
        ) from None
    converted.ir_version = max(
        converted.ir_version,
        onnx.helper.find_min_ir_version_for(list(converted.opset_import), ignore_unknown=True),
    )
    return converted


def run_passes(
    module: object,
    passes: Sequence[ModuleType],
    precision: Precision = Precision(),  # noqa: B008
) -> list[tuple[str, int, float]]:
    """Run passes in order; returns (name, rewrites, milliseconds) for each."""
    log = []
    for each in passes:
        start = time.perf_counter()
        rewrites = each.run(module, precision) if each in _FOR_PRECISION else each.run(module)
        name = each.__name__.rsplit(".", 1)[-1]
        log.append((name, rewrites, (time.perf_counter() - start) * 1e3))
    return log
