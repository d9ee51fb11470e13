"""Export: a trained PyTorch model in, one portable ONNX file out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pagdeploy.errors import EnvironmentProblem
from pagdeploy.verbs import Progress, silent

DEFAULT_SHAPE = (1, 3, 256, 256)


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        path: Of the ONNX file.
        gates: Number of PAGGate nodes.
        perforated: Number of PerforatedConv nodes.
        opset: Of the default domain.
        bytes: Size of the file.
        warnings: What the user should know, one sentence each.
    """

    path: Path
    gates: int
    perforated: int
    opset: int
    bytes: int
    warnings: list[str] = field(default_factory=list)


def export(
    model: Any,
    output: Path,
    *,
    weights: Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int = 17,
    budget_input: str | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Export a model whose inputs are float tensors.

    Args:
        model: A torch.nn.Module in evaluation mode, or where to find one:
            `file.py:factory`, `package.module:factory` or `model.pt2`; a factory's model is put
            in evaluation mode.
        output: The ONNX file to write.
        weights: A checkpoint to load (.safetensors, or .pt without pickled code).
        shapes: Example shape by input name, in the order of forward's arguments; default: what
            a .pt2 program brings, else one input `image` of 1x3x256x256. Batch, height and width
            stay dynamic.
        output_names: Names of the outputs; default: the model's `tasks`, else `output`, or
            `output_0` and so on.
        opset: Of the file; 17 is what TensorRT 8.6 and onnxruntime 1.16 still read.
        budget_input: Name of a further input, a scalar that is added to the score of skipping of
            every binary gate; None adds none. Gates with more branches are left alone.
        progress: Told of the steps.

    Raises:
        UsageError: the model cannot be found, built or exported as asked.
        EnvironmentProblem: torch is not installed.
        IncompatibleArtifact: the checkpoint does not fit, is damaged, or holds code.
    """
    from pagdeploy.bundle import refuse_inside_bundle

    try:
        from pagdeploy.exporters import from_torch, request
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "safetensors"):
            raise
        raise EnvironmentProblem.missing_extra(missing.name, "export", "Exporting") from None
    from pagdeploy.ops import DOMAIN

    refuse_inside_bundle(output)
    progress("load the model", 1, 3)
    module, untrained = request.load_model(model, weights)
    warnings = []
    if weights is None and isinstance(model, str) and not request.is_program(module):
        warnings.append("No checkpoint is given; the weights are those that the factory made.")
    if untrained:
        first = ", ".join(untrained[:3])
        warnings.append(
            f"{weights} lacks {len(untrained)} tensors of gates ({first}, ...);"
            " they keep their initial values."
        )
    named = dict(shapes or ({} if request.brings_inputs(module) else {"image": DEFAULT_SHAPE}))

    progress("export", 2, 3)
    proto = from_torch.export(
        module,
        request.example_inputs(module, named) if named else None,
        output,
        input_names=list(named) or None,
        output_names=output_names or list(getattr(module, "tasks", ())) or None,
        opset=opset,
        budget_input=budget_input,
    )
    progress(f"wrote {output}", 3, 3)
    ops = [node.op_type for node in proto.graph.node if node.domain == DOMAIN]
    return ExportResult(
        path=output,
        gates=ops.count("PAGGate"),
        perforated=ops.count("PerforatedConv"),
        opset=next(o.version for o in proto.opset_import if o.domain == ""),
        bytes=output.stat().st_size,
        warnings=warnings,
    )
