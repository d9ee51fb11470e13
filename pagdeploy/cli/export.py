"""pagdeploy export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pagdeploy.cli.console import (
    Json,
    Quiet,
    Shapes,
    Verbose,
    log_passes,
    print_json,
    progress,
    reported,
)


@reported
def export(
    model: Annotated[
        str, typer.Argument(help="file.py:factory, package.module:factory, or model.pt2.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Checkpoint: .safetensors, .pt or .pth.")
    ] = None,
    shapes: Shapes = None,
    fixed_shapes: Annotated[
        bool,
        typer.Option("--fixed-shapes", help="Fix every size; default: what the model lets vary."),
    ] = False,
    output_names: Annotated[
        str | None, typer.Option("--output-names", help="Comma separated; default: its tasks.")
    ] = None,
    opset: Annotated[int, typer.Option("--opset", min=17, help="ONNX opset of the file.")] = 17,
    budget_input: Annotated[
        str | None,
        typer.Option(
            "--budget-input",
            metavar="NAME",
            help="Add a scalar input of this name: the larger, the fewer pixels are computed."
            " 0 is the model as trained; gates with more than two branches are left alone.",
        ),
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export a trained PyTorch model to one portable ONNX file.

    It may be in our modules or in plain PyTorch: gates of others are recognised. A factory's model
    is put in evaluation mode; without --weights it keeps the factory's weights.
    """
    from pagdeploy.verbs.export import export as run
    from pagdeploy.verbs.inputs import parse_shapes

    log_passes(verbose)
    with progress(quiet or as_json) as steps:
        result = run(
            model,
            output,
            weights=weights,
            shapes=parse_shapes(shapes or []),
            fixed_shapes=fixed_shapes,
            output_names=output_names.split(",") if output_names else None,
            opset=opset,
            budget_input=budget_input,
            progress=steps,
        )
    if as_json:
        print_json(result)
        return
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    recognised = (
        f" ({result.recognised_gates} and {result.recognised_convolutions} recognised)"
        if result.recognised_gates or result.recognised_convolutions
        else ""
    )
    typer.echo(
        f"{result.path}: {result.gates} gates, {result.perforated} perforated convolutions"
        f"{recognised}, opset {result.opset}, {result.bytes / 2**20:.1f} MiB;"
        f" varies: {result.varies}"
    )
