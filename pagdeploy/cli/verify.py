"""pagdeploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagdeploy.cli.closer import show_closer
from pagdeploy.cli.console import (
    HostCode,
    Html,
    Inputs,
    Json,
    Quiet,
    Shapes,
    Verbose,
    invocation,
    jsonable,
    log_passes,
    print_json,
    printable,
    progress,
    reported,
    table,
    wrote,
)
from pagdeploy.cli.scores import (
    SCORES,
    BoundaryTolerance,
    IgnoreLabel,
    MaxLoss,
    Tasks,
    refuse_unheard,
    settings_of,
    verify_scores,
)
from pagdeploy.errors import UsageError

if TYPE_CHECKING:
    from pagdeploy.verbs.proof import Verification


@reported
def verify(
    subject: Annotated[Path, typer.Argument(help="Bundle, or portable ONNX file.")],
    lowering: Annotated[
        str | None,
        typer.Option("--lowering", help="For an ONNX file: gather (the default) or dense."),
    ] = None,
    shapes: Shapes = None,
    inputs: Inputs = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", help="For an ONNX file: fp32 (the default), tf32, fp16, bf16 or int8."
        ),
    ] = None,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-fp32",
            metavar="REGEX",
            help="Nodes that stay float32, by their name or that of an output or a weight;"
            " repeatable.",
        ),
    ] = None,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            "--calibration-data",
            metavar="FILE.npz",
            help="Typical inputs by name, one request per image: what int8 is scaled by.",
        ),
    ] = None,
    graph_only: Annotated[
        bool,
        typer.Option(
            "--graph-only",
            help="Of a bundle with a plan: verify the graph that it was built from, on the CPU.",
        ),
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Judge every layer by itself, too.")
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Look for the first node that is wrong.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="ort|dense|torch|PATH",
            help="Compare with another implementation, too: the portable model in onnxruntime"
            " (which is compared anyway), its dense lowering, PyTorch, another bundle, or an ONNX"
            " file.",
        ),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            help="For --against torch: file.py:factory, package.module:factory, or model.pt2.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="For --against torch: its checkpoint.")
    ] = None,
    html: Html = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Score tasks on images with their truths instead, by reference and engine.",
            rich_help_panel=SCORES,
        ),
    ] = None,
    task: Tasks = None,
    max_loss: MaxLoss = None,
    ignore_label: IgnoreLabel = 255,
    boundary_tolerance: BoundaryTolerance = 0.0075,
    allow_host_code: HostCode = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify that the engine computes the function of the portable model."""
    from pagdeploy.bundle import read_arrays
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested
    from pagdeploy.verbs.verify import verify as run

    of_a_file = {
        "--lowering": lowering,
        "--shapes": shapes if not inputs and data is None else None,
        "--precision": precision,
        "--keep-fp32": keep_fp32,
        "--calibration-data": calibration_data,
    }
    _check_options(subject, lowering, [name for name, given in of_a_file.items() if given])
    log_passes(verbose)
    proof = (graph_only, layers, bisect, against, factory, weights, html)
    refuse_unheard(data, any(proof), task, max_loss)
    if data is not None:
        verify_scores(
            subject,
            data,
            settings_of(task, max_loss, ignore_label, boundary_tolerance),
            inputs=inputs or [],
            shapes=parse_shapes(shapes or []),
            allow_host_code=allow_host_code,
            quiet=quiet,
            as_json=as_json,
        )
        return
    with progress(quiet or as_json) as steps:
        result = run(
            subject,
            inputs=requested(inputs, shapes or [], input_names(subject)) if inputs else None,
            shapes=parse_shapes(shapes or []),
            lowering=lowering or "gather",
            precision=precision or "fp32",
            keep_fp32=keep_fp32 or (),
            calibration=read_arrays(calibration_data) if calibration_data else None,
            graph_only=graph_only,
            layers=layers,
            bisect=bisect,
            against=against,
            factory=factory,
            weights=weights,
            allow_host_code=allow_host_code,
            html=html,
            command=invocation(),
            progress=steps,
        )
    if as_json:
        print_json({"passed": result.passed, **jsonable(result)})
    else:
        show(result)
        wrote(html)
        show_closer(result)
        for warning in result.warnings:
            typer.echo(printable(f"warning: {warning}"), err=True)
    if not result.passed:
        if not as_json:
            typer.echo(printable(f"failed: {result.reason}"), err=True)
        raise typer.Exit(1)


def _check_options(subject: Path, lowering: str | None, of_a_file: list[str]) -> None:
    """Refuse options that would be ignored: of a bundle, engine and sample are settled."""
    from pagdeploy.engines.ort import OnnxRuntimeEngine

    if of_a_file and subject.is_dir():
        raise UsageError(
            f"The option {of_a_file[0]} belongs to an ONNX file, and {subject} is a bundle.",
            remedy="Leave it out; the bundle's own engine is verified on its own sample.",
        )
    if lowering is not None and lowering not in OnnxRuntimeEngine().lowerings:
        raise UsageError(
            f"The engine {OnnxRuntimeEngine.name} has no lowering {lowering!r}.",
            remedy=f"Choose one of: {', '.join(OnnxRuntimeEngine().lowerings)}.",
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
        ["output", "error / scale", "bound", "rms", "bound", "verdict"],
        [
            [o.name, o.error, o.bound, o.rms, o.rms_bound, "ok" if o.passed else "FAILED"]
            for o in result.outputs
        ],
    )
    if result.passed:
        typer.echo(
            f"verified: {result.subject} ({result.lowering}, {result.precision}) computes the"
            " function of the portable model"
        )


def _shares(density: tuple[float, ...]) -> str:
    # Of two branches, 1 computes; of more, each is told.
    return f"{density[1]:.3f}" if len(density) == 2 else " ".join(f"{d:.2f}" for d in density)
