"""What `pagdeploy verify --data` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagdeploy.cli.console import jsonable, print_json, printable, progress, table
from pagdeploy.errors import UsageError

if TYPE_CHECKING:
    from pagdeploy.verbs.metrics import TaskReport
    from pagdeploy.verbs.tasks import Settings

SCORES = "Scores on data"
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TASK=OUTPUT",
        help="Which output is segmentation, boundary, depth or normals; by default the one of"
        " that name; repeatable.",
        rich_help_panel=SCORES,
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        help="What the engine may lose, absolute; 0.5, or 2 of int8. A degree counts as 1 %.",
        rich_help_panel=SCORES,
    ),
]
IgnoreLabel = Annotated[
    int, typer.Option(help="Class of pixels that do not count.", rich_help_panel=SCORES)
]
BoundaryTolerance = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Of the diagonal, within which boundary pixels match.",
        rich_help_panel=SCORES,
    ),
]


def refuse_unheard(
    data: Path | None, proof: bool, tasks: Sequence[str] | None, max_loss: float | None
) -> None:
    """Refuse options that would be ignored.

    Args:
        data: The folder, if scores are asked for.
        proof: Whether an option of the proof is given, which is not made beside scores.
        tasks: As given.
        max_loss: As given.
    """
    if data is None and (tasks or max_loss is not None):
        raise UsageError(
            "The options --task and --max-loss belong to scores.", remedy="Give --data FOLDER, too."
        )
    if data is not None and proof:
        raise UsageError(
            "The option --data scores tasks, and makes no proof or report.",
            remedy="Run verify twice: once with --data, and once with the other options.",
        )


def settings_of(
    tasks: Sequence[str] | None, max_loss: float | None, ignored: int, boundary_tolerance: float
) -> Settings:
    """What the options say."""
    from pagdeploy.verbs.tasks import Settings

    tolerance = None if max_loss is None else max_loss / 100
    return Settings(tasks or (), tolerance, ignored, boundary_tolerance)


def verify_scores(
    subject: Path,
    data: Path,
    settings: Settings,
    *,
    inputs: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    allow_host_code: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score a bundle on a folder of data; leave with 1 if the engine loses too much."""
    from pagdeploy.verbs.inputs import input_names, parse_inputs
    from pagdeploy.verbs.metrics import score_tasks

    if not subject.is_dir():
        raise UsageError(
            f"The option --data belongs to a bundle, and {subject} is none.",
            remedy="Build one first: pagdeploy build.",
        )
    given = parse_inputs(inputs, input_names(subject)) if inputs else None
    with progress(quiet or as_json) as steps:
        result = score_tasks(
            subject,
            data,
            settings,
            inputs=given,
            shapes=shapes,
            allow_host_code=allow_host_code,
            progress=steps,
        )
    if as_json:
        print_json({"passed": result.passed, **jsonable(result)})
    else:
        show_scores(result)
    if not result.passed:
        if not as_json:
            typer.echo(printable(f"failed: {result.reason}"), err=True)
        raise typer.Exit(1)


def show_scores(result: TaskReport) -> None:
    """Print the table of scores."""
    table(
        f"Scores on {result.images} images of {result.data}",
        ["task", "metric", "unit", "reference", "engine", "difference", "may lose", "verdict"],
        [
            [row.task, row.metric, row.unit, row.reference, row.engine,
             row.difference, row.allowed if row.better else "",
             ("ok" if row.passed else "FAILED") if row.better else ""]
            for row in result.scores
        ],
    )  # fmt: skip
    for note in result.notes:
        typer.echo(printable(f"note: {note}"), err=True)
    if result.passed:
        typer.echo(
            f"verified: {result.bundle} ({result.lowering}, {result.precision}) loses at most"
            f" {100 * result.tolerance:g} % of any score"
        )
