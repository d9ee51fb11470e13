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
    choose_assigned,
    drop_unused,
    emulate_half,
    fold_batch_norm,
    fold_constants,
    fold_lists,
    infer_perforation,
    infer_support,
    insert_quantization,
    keep_channels_last,
    lower_dense,
    lower_gate,
    lower_gather,
    lower_native,
    lower_quantized,
    lower_segaware,
    move_quantization,
    quantize_bias,
    recognise_gates,
    recognise_masked_conv,
    recognise_steps,
    remove_gate_noise,
    repeat_decisions,
    share_equal_nodes,
    skip_images,
    split_means,
    strip_bodies,
    switch_dense,
    unstack_branches,
    write_plugin_attributes,
)
from pagdeploy.precision import Precision

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_log = logging.getLogger("pagdeploy.passes")

# Models written by others become models in our ops; what is in our ops already stays as it is.
RECOGNITION: tuple[ModuleType, ...] = (
    strip_bodies,  # first: from here on a body could only disagree with the node
    fold_constants,  # before all that asks what a constant is
    fold_batch_norm,  # before the masks, which lie behind it, and the precision: one rounding
    remove_gate_noise,
    choose_assigned,  # before the steps, which may be put together by assignments
    recognise_steps,  # before the gates, which are comparisons
    unstack_branches,  # likewise: it brings their masks to light
    recognise_gates,
    recognise_masked_conv,
)

PIPELINES: dict[str, tuple[ModuleType, ...]] = {
    # Standard ONNX that computes only active pixels; what cannot be gathered is lowered densely.
    "gather": (
        *RECOGNITION,
        infer_perforation,  # what is left dense, but read only where a mask is set
        insert_quantization,  # before lowering, which takes our nodes apart
        cast_precision,
        lower_segaware,  # after casting: its distances stay float32
        skip_images,  # before pixels: what is decided for an image needs no list of them
        switch_dense,  # before gathering, which it keeps for frames that are sparse enough
        lower_gather,
        lower_dense,  # after gather: it takes what is left
        move_quantization,  # to the products that the two have made
        quantize_bias,
        fold_lists,  # of pixels that are the same in every frame
        keep_channels_last,
        split_means,  # of the maps that now lie so
        share_equal_nodes,  # after both: the convolutions of one selection share its pixel list
        lower_gate,  # after sharing, which keeps gates apart, so that each shows its decision
        drop_unused,
    ),
    # Every pixel computed, then chosen: what each runtime understands.
    "dense": (
        *RECOGNITION,
        insert_quantization,
        cast_precision,
        lower_segaware,
        lower_dense,
        move_quantization,
        quantize_bias,
        share_equal_nodes,
        lower_gate,
        drop_unused,
    ),
    # The ops of our onnxruntime library, which has the gates too; what it lacks is gathered.
    "native": (
        *RECOGNITION,
        infer_perforation,
        insert_quantization,
        cast_precision,
        lower_segaware,
        repeat_decisions,  # of parts that hold convolutions alone
        skip_images,  # the others
        share_equal_nodes,  # before lowering, which makes one list for each selection
        lower_quantized,  # before what it leaves is gathered
        lower_native,
        lower_gather,
        lower_dense,
        move_quantization,
        quantize_bias,
        split_means,
        share_equal_nodes,
        drop_unused,
    ),
    # Our nodes stay; a plugin or an operator library computes them.
    "plugin": (
        *RECOGNITION,
        infer_support,  # the others widen their lists of pixels by themselves
        insert_quantization,
        cast_precision,
        lower_segaware,  # which no plugin computes
        share_equal_nodes,
        write_plugin_attributes,
        drop_unused,
    ),
}
# They rewrite nothing in float32.
_FOR_PRECISION = (
    insert_quantization, cast_precision, lower_quantized, move_quantization, quantize_bias,
)  # fmt: skip


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
        BuildFailed: the model cannot be written at the opset that the precision needs.

    Returns:
        The lowered model, its types and shapes inferred.
    """
    import onnx
    import onnx_ir as ir

    if lowering not in PIPELINES:
        raise UsageError(
            f"There is no lowering {lowering!r}.", remedy=f"Choose one of: {', '.join(PIPELINES)}."
        )
    module = read_module(model)
    passes = PIPELINES[lowering] + ((emulate_half,) if emulated else ())
    for name, rewrites, milliseconds in run_passes(module, passes, precision):
        _log.info("%-18s %4d rewrites %8.1f ms", name, rewrites, milliseconds)
        if on_pass:
            on_pass(name, rewrites, milliseconds)
    lowered = ir.to_proto(module)
    if precision.name in ("fp32", "tf32"):
        return lowered
    if not (precision.is_half and emulated):  # which has the types of any opset
        lowered = _at_opset(lowered, precision)
    # A pass types what it casts; what is lowered after it gets its type from there.
    return onnx.shape_inference.infer_shapes(lowered)


def seen_by(
    lowering: str,
    model: onnx.ModelProto,
    precision: Precision = Precision(),  # noqa: B008
) -> onnx.ModelProto:
    """The model as a lowering sees it, before our nodes are taken apart; layers are held to it.

    Args:
        lowering: A key of `PIPELINES`.
        model: A portable model.
        precision: What to compute in, emulated where it is of 16 bits; values keep their names.

    Returns:
        A model in our ops, in which batch norms are folded and perforation is inferred.
    """
    import onnx
    import onnx_ir as ir

    module = read_module(model)
    passes = PIPELINES[lowering]
    seen = passes[: passes.index(cast_precision) + 1]
    run_passes(module, (*seen, drop_unused, emulate_half), precision)
    result = ir.to_proto(module)
    if precision.name == "int8":
        result = _at_opset(result, precision)
    return onnx.shape_inference.infer_shapes(result)


def recognise(model: onnx.ModelProto) -> onnx.ModelProto:
    """The portable model in our ops that computes what a model written by others does.

    Its gates can be shown and forced by name, so that it can stand for the other one where
    decisions are compared.

    Args:
        model: Any ONNX model; one that is in our ops already comes back as it is.
    """
    import onnx_ir as ir

    from pagdeploy.ops.bodies import attach_bodies

    module = read_module(model)
    recognised = (remove_gate_noise, recognise_gates, recognise_masked_conv)
    counts = run_passes(module, RECOGNITION)
    names = {each.__name__.rsplit(".", 1)[-1] for each in recognised}
    if not any(rewrites for name, rewrites, _ in counts if name in names):
        return model
    run_passes(module, (drop_unused,))
    return attach_bodies(ir.to_proto(module))


def read_module(model: onnx.ModelProto) -> ir.Model:
    """A copy to work on: functions of others inlined, types and shapes inferred, nodes named.

    Its opset is not too old, if it can be raised.
    """
    import onnx
    import onnx_ir as ir
    from onnx import version_converter

    from pagdeploy.graph.functions import inline_functions
    from pagdeploy.graph.read import name_nodes
    from pagdeploy.ops.derive import MIN_OPSET, register_schemas

    register_schemas()  # so that shapes are inferred through our nodes
    model = inline_functions(model)  # likewise, and so that passes see them
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    if opset < MIN_OPSET:
        try:
            model = version_converter.convert_version(model, MIN_OPSET)
        except Exception as problem:  # the converter raises several types of its own
            _log.info("No gates are looked for: opset %d cannot be raised (%s)", opset, problem)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for each in inferred.opset_import:  # two spellings of one domain
        each.domain = "" if each.domain == "ai.onnx" else each.domain
    name_nodes(inferred)
    return ir.from_proto(inferred)


def _at_opset(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """The model at the opset that the precision needs, or at its own if that is later."""
    import onnx
    from onnx import version_converter

    version = precision.opset
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) >= version:
        return model
    try:
        converted = version_converter.convert_version(model, version)
    except Exception as problem:  # the converter raises several types of its own
        raise BuildFailed(
            f"The model cannot be written at opset {version}, which {precision.name} needs"
            f" ({problem}).",
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
