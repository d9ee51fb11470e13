"""Export: a trained PyTorch model in, one portable ONNX file out."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagdeploy.errors import EnvironmentProblem
from pagdeploy.files import replacing_file
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx

DEFAULT_SHAPE = (1, 3, 256, 256)


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        path: Of the ONNX file.
        gates: Number of PAGGate nodes.
        perforated: Number of PerforatedConv nodes.
        recognised_gates: How many of the gates were written in plain PyTorch.
        recognised_convolutions: Likewise of the perforated convolutions.
        varies: Which sizes do: "batch, height and width", or "nothing".
        opset: Of the default domain.
        bytes: Size of the file.
        warnings: What the user should know, one sentence each.
    """

    path: Path
    gates: int
    perforated: int
    recognised_gates: int
    recognised_convolutions: int
    varies: str
    opset: int
    bytes: int
    warnings: list[str] = field(default_factory=list)


def export(
    model: Any,
    output: Path,
    *,
    weights: Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    fixed_shapes: bool = False,
    output_names: Sequence[str] | None = None,
    opset: int = 17,
    budget_input: str | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Export a model whose inputs are float tensors.

    The model may be written in our modules or in plain PyTorch: gates and masked convolutions of
    others are recognised, and what is exported is compared with PyTorch, at other sizes as well.

    Args:
        model: A torch.nn.Module in evaluation mode, or where to find one:
            `file.py:factory`, `package.module:factory` or `model.pt2`; a factory's model is put
            in evaluation mode.
        output: The ONNX file to write.
        weights: A checkpoint to load (.safetensors, or .pt without pickled code).
        shapes: Example shape by input name, in the order of forward's arguments; default: what
            a .pt2 program brings, else one input `image` of 1x3x256x256. Batch, height and width
            stay dynamic, as far as the model takes other ones.
        fixed_shapes: Fix every size instead.
        output_names: Names of the outputs; default: the model's `tasks`, else `output`, or
            `output_0` and so on.
        opset: Of the file; 17 is what TensorRT 8.6 and onnxruntime 1.16 still read.
        budget_input: Name of a further input, a scalar that is added to the score of skipping of
            every binary gate; None adds none. Gates with more branches are left alone.
        progress: Told of the steps.

    Raises:
        UsageError: the model cannot be found, built or exported as asked.
        EnvironmentProblem: torch is not installed.
        IncompatibleArtifact: the checkpoint or program does not fit, is damaged, or holds code.
        VerificationFailed: the exported model does not compute what PyTorch does.
    """
    from pagdeploy.bundle import refuse_inside_bundle

    try:
        from pagdeploy.exporters import from_torch, request
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "safetensors"):
            raise
        raise EnvironmentProblem.missing_extra(missing.name, "export", "Exporting") from None
    from pagdeploy.graph.describe import describe
    from pagdeploy.graph.gates import gates_of
    from pagdeploy.ops import DOMAIN
    from pagdeploy.verbs.sizes import export_open_sizes, open_sizes

    refuse_inside_bundle(output)
    progress("load the model", 1, 4)
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

    progress("export", 2, 4)
    write = partial(
        from_torch.export,
        input_names=list(named) or None,
        output_names=output_names or list(getattr(module, "tasks", ())) or None,
        opset=opset,
        keep_random=True,  # what is a gate's noise is taken out below
    )
    examples = dict(zip(named, request.example_inputs(module, named), strict=True)) or None
    proto, notes = export_open_sizes(write, module, examples, fixed=fixed_shapes)

    progress("recognise gates", 3, 4)
    portable = _recognised(proto)
    if budget_input is not None:
        own = {gate.name for gate in gates_of(proto)}
        portable = _with_budget(portable, budget_input, own)
    describe(portable)
    with replacing_file(output) as temporary:
        temporary.write_bytes(portable.SerializeToString())
    progress(f"wrote {output}", 4, 4)

    def count(counted: onnx.ModelProto, op_type: str) -> int:
        return sum(n.domain == DOMAIN and n.op_type == op_type for n in counted.graph.node)

    gates, convs = count(portable, "PAGGate"), count(portable, "PerforatedConv")
    return ExportResult(
        path=output,
        gates=gates,
        perforated=convs,
        recognised_gates=gates - count(proto, "PAGGate"),
        recognised_convolutions=convs - count(proto, "PerforatedConv"),
        varies=open_sizes(proto),
        opset=next(o.version for o in portable.opset_import if o.domain == ""),
        bytes=output.stat().st_size,
        warnings=warnings + notes,
    )


def _recognised(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in our ops, held to what it was.

    Raises:
        UsageError: it draws random numbers that are not the noise of a gate.
        VerificationFailed: our ops compute something else, which is a fault of ours.
    """
    import onnx_ir as ir

    from pagdeploy.exporters.from_torch import refuse_random
    from pagdeploy.graph.read import check_model
    from pagdeploy.pipeline import recognise
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.source import Source, recognition_note

    portable = recognise(proto)
    refuse_random(ir.from_proto(portable))
    if portable is not proto:
        check_model(portable, "The exported model")
        inputs = made_up_inputs(portable, example_shapes(portable, {}))
        try:
            recognition_note(Source(proto, portable), inputs)
        except EnvironmentProblem:  # onnxruntime is not installed, which was told before
            pass
    return portable


def _with_budget(proto: onnx.ModelProto, name: str, own: Container[str]) -> onnx.ModelProto:
    """The model with a budget input; which branch of a gate skips is seen from what it rules.

    Args:
        proto: In our ops.
        name: Of the input.
        own: Gates of our modules, which are built so that branch 0 skips.
    """
    import onnx
    import onnx_ir as ir

    from pagdeploy.exporters.budget import add_budget
    from pagdeploy.graph.rulings import rulings_of
    from pagdeploy.ops.derive import register_schemas
    from pagdeploy.passes import infer_perforation
    from pagdeploy.pipeline import RECOGNITION, run_passes

    register_schemas()  # so that shapes are inferred through our nodes
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    model, explored = ir.from_proto(inferred), ir.from_proto(inferred)
    run_passes(explored, (*RECOGNITION, infer_perforation))  # as a build will see it
    skips: dict[str, int | str] = {}
    for gate, rulings in rulings_of(explored).items():
        if not rulings:
            if gate.name not in own:
                skips[str(gate.name)] = "no convolution is computed for one branch alone"
            continue
        computed = [ruling.branches for ruling in rulings]
        known = frozenset[int]().union(*(branches or () for branches in computed))
        idle = {0, 1} - known
        if None in computed:
            skips[str(gate.name)] = "which of its branches computes is not known"
        elif len(idle) == 1:
            skips[str(gate.name)] = idle.pop()
        else:
            skips[str(gate.name)] = "both of its branches compute"
    add_budget(model, name, skips)
    noted = json.loads(model.metadata_props.get("pagdeploy.example_shapes", "{}"))
    model.metadata_props["pagdeploy.example_shapes"] = json.dumps({**noted, name: []})
    return ir.to_proto(model)
