"""pagdeploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagdeploy.cli.console import (
    Inputs,
    Json,
    Quiet,
    Shapes,
    Verbose,
    jsonable,
    log_passes,
    print_json,
    progress,
    reported,
    table,
)

if TYPE_CHECKING:
    from pagdeploy.verbs.verify import Verification


@reported
def verify(
    subject: Annotated[Path, typer.Argument(help="Bundle, or portable ONNX file.")],
    lowering: Annotated[
        str, typer.Option("--lowering", help="For an ONNX file: gather or dense.")
    ] = "gather",
    shapes: Shapes = None,
    inputs: Inputs = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify that the engine computes the function of the portable model."""
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested
    from pagdeploy.verbs.verify import verify as run

    log_passes(verbose)
    with progress(quiet or as_json) as steps:
        result = run(
            subject,
            inputs=requested(inputs, shapes or [], input_names(subject)) if inputs else None,
            shapes=parse_shapes(shapes or []),
            lowering=lowering,
            progress=steps,
        )
    if as_json:
        print_json({"passed": result.passed, **jsonable(result)})
    else:
        show(result)
    if not result.passed:
        if not as_json:
            typer.echo(f"failed: {result.reason}", err=True)
        raise typer.Exit(1)


def show(result: Verification) -> None:
    """Print the tables of a verification."""
    table(
        "Gates",
        ["gate", "pixels", "density", "flips", "with earlier gates forced", "unexplained"],
        [
            [g.name, g.pixels, _shares(g.density), g.flips, g.forced_flips, g.unexplained]
            for g in result.gates
        ],
    )
    table(
        "Outputs, with the reference's decisions forced in",
        ["output", "error / scale", "bound", "verdict"],
        [[o.name, o.error, o.bound, "ok" if o.passed else "FAILED"] for o in result.outputs],
    )
    if result.passed:
        typer.echo(
            f"verified: {result.subject} ({result.lowering}, {result.precision}) computes the"
            " function of the portable model"
        )


def _shares(density: tuple[float, ...]) -> str:
    # Of two branches, 1 computes; of more, each is told.
    return f"{density[1]:.3f}" if len(density) == 2 else " ".join(f"{d:.2f}" for d in density)
