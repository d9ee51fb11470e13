"""A trained PyTorch model in, one portable ONNX file out."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.defs
import onnx_ir as ir
import onnxscript
import torch
import torch.onnx
from torch import Tensor, nn
from torch.export import ExportedProgram

from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.exporters import portable, signature
from pagdeploy.exporters.budget import add_budget
from pagdeploy.exporters.evaluation import evaluation_copy, refuse_training, run_model
from pagdeploy.exporters.opset import to_opset17
from pagdeploy.exporters.signature import DynamicShapes
from pagdeploy.exporters.torch_ops import pag_gate, perforated_conv, seg_aware_conv
from pagdeploy.files import replacing_file
from pagdeploy.ops import DOMAIN, VERSION
from pagdeploy.ops.derive import MIN_OPSET, register_schemas

RANDOM_OPS = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_FIXED_AXIS = re.compile(
    r"static shape of (?P<size>\d+) for dimension inputs\['(?P<name>\w+)'\]\.shape\[(?P<axis>\d+)\]"
)
_LOGGERS = ("torch", "onnxscript", "onnx_ir")


class NotTranslated(UsageError):
    """PyTorch's exporter cannot write the model, at least not for sizes that vary."""


def export(
    model: nn.Module | ExportedProgram,
    example_inputs: Sequence[Tensor] | None = None,
    path: Path | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: DynamicShapes | None = None,
    opset: int = MIN_OPSET,
    budget_input: str | None = None,
    keep_random: bool = False,
    progress: Callable[[str], None] | None = None,
) -> onnx.ModelProto:
    """Export a model in evaluation mode to one portable ONNX model.

    Every call of `PAGGate` and `PerforatedConv2d` becomes one node, named after the module. The
    model works on in any ONNX runtime, because each op carries its definition as a function body.

    Args:
        model: A module in evaluation mode, which is left as it is; or an exported program.
        example_inputs: What forward takes, in order. A program may bring its own.
        path: Where to write the model; None only returns it. The file is complete or not there.
        input_names: Default: the names of forward's parameters.
        output_names: Default: the keys of a dict, the fields of a named tuple, `output` for one
            tensor, else `output_0` and so on.
        dynamic_shapes: Default: axes 0, 2 and 3 of every 4-D input, named batch, height and
            width for the first one and <input>_batch and so on for the others, unless the model
            needs them to be equal. {} fixes all sizes. A program has its own; only names apply.
        opset: Of the default domain. 17 with IR version 8 is what the oldest runtimes read.
        budget_input: Name of a further input, the budget (see `exporters.budget`); None adds none.
        keep_random: Let a model draw random numbers; for a caller who takes them out.
        progress: Called with a phrase at the start of every step.

    Raises:
        UsageError: the model is in training mode, fails on the example inputs, draws random
            numbers, returns something else than tensors, fixes an axis that was to vary, or uses
            what PyTorch's exporter or the opset cannot express; or names are wrong; or a budget
            cannot be added.
        BuildFailed: the exporter did not reach the opset, or the model is larger than 2 GiB.
    """
    say = progress or (lambda step: None)
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise UsageError(
            f"Opset {opset} cannot be written.", remedy=f"Ask for {MIN_OPSET} to {newest}."
        )
    say("Running the model on the example input")
    if isinstance(model, ExportedProgram):
        refuse_training(model)
    source = model if isinstance(model, ExportedProgram) else evaluation_copy(model)
    inputs = signature.checked_inputs(source, example_inputs)
    defaults = signature.default_output_names(run_model(source, inputs))
    inputs_named = signature.names(
        input_names, signature.default_input_names(source, len(inputs)), "input"
    )
    outputs_named = signature.names(output_names, defaults, "output")
    signature.require_unique([*inputs_named, *outputs_named])
    examples = dict(zip(inputs_named, inputs, strict=True))
    shapes = signature.checked_shapes(dynamic_shapes, examples)
    say("Tracing and translating the model")
    converted = _translate(source, examples, outputs_named, shapes, opset)
    if isinstance(model, nn.Module):
        _require_dynamic(converted, shapes)
    say("Naming the nodes and attaching the function bodies")
    if opset == MIN_OPSET:
        to_opset17(converted)
    if converted.opset_imports[""] != opset:  # the exporter falls back without an error
        raise BuildFailed(
            f"PyTorch's exporter wrote opset {converted.opset_imports['']} instead of {opset}.",
            remedy=f"Ask for opset {MIN_OPSET} or 18.",
        )
    if not keep_random:
        refuse_random(converted)
    portable.fold_parameters(converted)
    portable.fill_inputs(converted)
    portable.name_after_modules(converted)
    portable.strip_metadata(converted)
    tried = {name: list(tensor.shape) for name, tensor in examples.items()}
    if budget_input is not None:
        add_budget(converted, budget_input)
        tried[budget_input] = []
    converted.metadata_props["pagdeploy.example_shapes"] = json.dumps(tried)
    say("Checking the model")
    proto = portable.finish(converted)
    if path is not None:
        say(f"Writing {path}")
        with replacing_file(path) as temporary:
            temporary.write_bytes(proto.SerializeToString())
    return proto


def _translate(
    model: nn.Module | ExportedProgram,
    examples: Mapping[str, Tensor],
    output_names: Sequence[str],
    shapes: DynamicShapes,
    opset: int,
) -> ir.Model:
    named = tuple(dict(shapes.get(name, {})) for name in examples)
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                () if isinstance(model, ExportedProgram) else tuple(examples.values()),
                dynamo=True,
                verbose=False,
                opset_version=max(opset, 18),
                input_names=list(examples),
                output_names=list(output_names),
                dynamic_shapes=named if any(named) else None,
                custom_translation_table=_translation_table(),
            )
    except torch.onnx.errors.OnnxExporterError as problem:
        cause = _root_cause(problem)
        if fixed := _FIXED_AXIS.search(str(cause)):
            raise _fixed(*fixed.group("size", "axis", "name")) from problem
        raise NotTranslated(
            f"PyTorch's exporter cannot express the model "
            f"({type(cause).__name__}: {_first_line(cause)}).",
            remedy="Change it there; the usual cause is control flow that depends on values.",
        ) from problem
    assert program is not None, "the exporter returns a program where dynamo is on"
    result: ir.Model = program.model
    return result


def _translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    register_schemas()  # onnxscript looks our ops up
    ops = onnxscript.values.Opset(DOMAIN, VERSION)

    def convolution(X: Any, selection: Any, W: Any, B: Any, base: Any, **attributes: Any) -> Any:
        kernel_shape = [int(size) for size in W.shape[2:]]
        return ops.PerforatedConv(X, selection, W, B, base, kernel_shape=kernel_shape, **attributes)

    def seg_aware(X: Any, E: Any, W: Any, B: Any, hardness: Any, **attributes: Any) -> Any:
        kernel_shape = [int(size) for size in W.shape[2:]]
        return ops.SegAwareConv(X, E, W, B, hardness, kernel_shape=kernel_shape, **attributes)

    return {
        pag_gate: lambda logits: ops.PAGGate(logits),
        perforated_conv: convolution,
        seg_aware_conv: seg_aware,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's prints, warnings and log lines; errors are exceptions."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _require_dynamic(model: ir.Model, shapes: DynamicShapes) -> None:
    for value in model.graph.inputs:
        for axis in shapes.get(str(value.name), {}):
            size = None if value.shape is None else value.shape[axis]
            if isinstance(size, int):
                raise _fixed(size, axis, value.name)


def _fixed(size: object, axis: object, name: object) -> NotTranslated:
    return NotTranslated(
        f"The model works only with size {size} on axis {axis} of {name!r}.",
        remedy="Leave that axis out of dynamic_shapes; {} fixes every size.",
    )


def refuse_random(model: ir.Model) -> None:
    """Raise UsageError if a node draws random numbers; the message names its module."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type in RANDOM_OPS and node.domain == "":
            where = portable.module_path(node) or "the model itself"
            raise UsageError(
                f"The model draws random numbers in evaluation: {node.op_type} in {where}.",
                remedy="Make it deterministic in evaluation mode, such as by a hard argmax.",
            )


def _root_cause(problem: BaseException) -> BaseException:
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return problem


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"
