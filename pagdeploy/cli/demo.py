"""pagdeploy demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pagdeploy.cli.console import Json, Quiet, print_json, progress, reported, table


@reported
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything that is made.")
    ] = Path("demo-output"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Take the whole road with a trained model and real photos: export, build, verify, run."""
    from pagdeploy.verbs.demo import COLUMNS
    from pagdeploy.verbs.demo import demo as travel

    with progress(quiet or as_json) as steps:
        result = travel(output, progress=steps)
    if as_json:
        print_json(result)
        return
    rows = [[getattr(row, column) for column in COLUMNS] for row in result.rows]
    table("Dense = the masked dense export that other stacks run", list(COLUMNS.values()), rows)
    typer.echo(
        f"The engine ({result.lowering} lowering) was chosen by timing; a ratio below 1 means that"
        " it is slower than the dense export."
    )
    table(
        "Density per gate",
        ["image", *result.gates],
        [[row.image, *(round(d, 3) for d in row.gate_density)] for row in result.rows],
    )
    for path in result.files:
        typer.echo(f"wrote {path}")
    if not result.passed:
        typer.echo(f"failed: {result.reason}", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"all {len(rows)} images verified; flips are pixels where the reference itself was"
        " undecided"
    )
