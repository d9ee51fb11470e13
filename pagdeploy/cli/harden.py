"""pagdeploy harden."""

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
    log_passes,
    print_json,
    printable,
    progress,
    reported,
    table,
)
from pagdeploy.cli.scores import SCORES, BoundaryTolerance, IgnoreLabel, Tasks, settings_of
from pagdeploy.errors import UsageError

if TYPE_CHECKING:
    from pagdeploy.verbs.harden import HardenResult


@reported
def harden(
    model: Annotated[Path, typer.Argument(help="ONNX file with soft mixtures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="REGEX",
            help="Mixtures to harden, by the names of their Softmax or Sigmoid; repeatable; by"
            " default all of which a gate would spare a convolution.",
        ),
    ] = None,
    shapes: Shapes = None,
    inputs: Inputs = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Score both models on images with their truths, too.",
            rich_help_panel=SCORES,
        ),
    ] = None,
    task: Tasks = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Write nothing, and exit with 1, if a score loses more, absolute. A degree counts"
            " as 1 %.",
            rich_help_panel=SCORES,
        ),
    ] = None,
    ignore_label: IgnoreLabel = 255,
    boundary_tolerance: BoundaryTolerance = 0.0075,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Let gates decide where a model mixes softly, and tell what that changes.

    The most probable branch of a mixture is taken for the whole of it, pixel by pixel, so that the
    others need not be computed. That is another function, which nothing else here ever makes.
    """
    from pagdeploy.verbs.harden import harden as run
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested

    if data is None and (task or max_loss is not None):
        raise UsageError(
            "The options --task and --max-loss belong to scores.", remedy="Give --data FOLDER, too."
        )
    log_passes(verbose)
    with progress(quiet or as_json) as steps:
        result = run(
            model,
            output,
            only=only or (),
            inputs=requested(inputs, shapes or [], input_names(model)) if inputs else None,
            shapes=parse_shapes(shapes or []),
            data=data,
            settings=settings_of(task, max_loss, ignore_label, boundary_tolerance),
            progress=steps,
        )
    if as_json:
        print_json(result)
    else:
        _show(result)
    if result.reason is not None:
        if not as_json:
            typer.echo(printable(f"not written: {result.reason}"), err=True)
        raise typer.Exit(1)


def _show(result: HardenResult) -> None:
    for warning in result.warnings:
        typer.echo(printable(f"note: {warning}"), err=True)
    table(
        "Mixtures that are gates now",
        ["gate", "of", "convolutions", "share of each branch", "mean weight of the chosen",
         "at most half"],
        [
            [gate.name, f"{gate.kind}, {gate.branches}", gate.convolutions,
             ", ".join(f"{share:.1%}" for share in gate.density), f"{gate.confidence:.3f}",
             f"{gate.undecided:.1%}"]
            for gate in result.gates
        ],
    )  # fmt: skip
    if result.left:
        table("Mixtures that stay", ["node", "why"], [[row.name, row.why] for row in result.left])
    table(
        "Outputs beside those of the soft model, on one request",
        ["output", "rms of the difference", "largest", "same channel, or equal"],
        [
            [row.name, f"{row.rms:.3g}", f"{row.largest:.3g}",
             "" if row.agreement is None else f"{row.agreement:.1%}"]
            for row in result.outputs
        ],
    )  # fmt: skip
    if result.scores:
        table(
            f"Scores on {result.images} images",
            ["task", "metric", "unit", "soft", "hard", "difference"],
            [
                [row.task, row.metric, row.unit, row.reference, row.engine, row.difference]
                for row in result.scores
            ],
        )
    ratio = result.macs_soft / result.macs_hard if result.macs_hard else 1.0
    typer.echo(
        f"multiply-adds: {result.macs_soft / 1e6:,.1f} million soft,"
        f" {result.macs_hard / 1e6:,.1f} million hard: a ceiling of {ratio:.2f}"
    )
    if result.written:
        count = len(result.gates)
        what = (
            "1 gate in place of a mixture" if count == 1 else f"{count} gates in place of mixtures"
        )
        typer.echo(f"{result.path}: {what}")
