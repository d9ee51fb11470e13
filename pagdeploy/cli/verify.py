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
from pagdeploy.errors import UsageError

if TYPE_CHECKING:
    from pagdeploy.verbs.verify import Verification


@reported
def verify(
    subject: Annotated[Path, typer.Argument(help="Bundle, or portable ONNX file.")],
    lowering: Annotated[
        str | None,
        typer.Option("--lowering", help="For an ONNX file: gather (the default) or dense."),
    ] = None,
    shapes: Shapes = None,
    inputs: Inputs = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify that the engine computes the function of the portable model."""
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested
    from pagdeploy.verbs.verify import verify as run

    _check_options(subject, lowering, bool(shapes and not inputs))
    log_passes(verbose)
    with progress(quiet or as_json) as steps:
        result = run(
            subject,
            inputs=requested(inputs, shapes or [], input_names(subject)) if inputs else None,
            shapes=parse_shapes(shapes or []),
            lowering=lowering or "gather",
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


def _check_options(subject: Path, lowering: str | None, noise: bool) -> None:
    """Refuse options that would be ignored: of a bundle, engine and sample are settled."""
    from pagdeploy.engines.ort import OnnxRuntimeEngine

    given = "--lowering" if lowering is not None else "--shapes" if noise else None
    if given is not None and subject.is_dir():
        raise UsageError(
            f"The option {given} belongs to an ONNX file, and {subject} is a bundle.",
            remedy="Leave it out; the bundle's own engine is verified on its own sample.",
        )
    if lowering is not None and lowering not in OnnxRuntimeEngine.lowerings:
        raise UsageError(
            f"The engine {OnnxRuntimeEngine.name} has no lowering {lowering!r}.",
            remedy=f"Choose one of: {', '.join(OnnxRuntimeEngine.lowerings)}.",
        )


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
