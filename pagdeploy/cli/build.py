"""pagdeploy build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pagdeploy.cli.console import (
    Inputs,
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
def build(
    model: Annotated[Path, typer.Argument(help="Portable ONNX file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle: NAME.pagbundle.")],
    engine: Annotated[str, typer.Option("--engine", help="What runs it.")] = "onnxruntime",
    lowering: Annotated[
        str, typer.Option("--lowering", help="auto (times both), gather, or dense.")
    ] = "auto",
    shapes: Shapes = None,
    inputs: Inputs = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a bundle: an engine for this machine, with its proof and its portable model."""
    from pagdeploy.verbs.build import build as run
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested

    log_passes(verbose)
    with progress(quiet or as_json) as steps:
        result = run(
            model,
            output,
            engine=engine,
            lowering=lowering,
            shapes=parse_shapes(shapes or []),
            inputs=requested(inputs, shapes or [], input_names(model)) if inputs else None,
            progress=steps,
        )
    if as_json:
        print_json(result)
        return
    for warning in result.warnings:
        typer.echo(f"note: {warning}", err=True)
    info = result.manifest.engine
    measured = ", ".join(f"{name} {ms:.1f} ms" for name, ms in info.measured_ms.items())
    typer.echo(
        f"{result.path}: {info.flavour} {info.version}, {info.lowering} lowering ({measured})"
    )
