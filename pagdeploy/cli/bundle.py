"""pagdeploy bundle: a bundle in the form that another program wants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pagdeploy.cli.console import Json, Quiet, print_json, progress, reported

bundle = typer.Typer(
    name="bundle", help="Write a bundle as another program wants it.", no_args_is_help=True
)


@bundle.command()
@reported
def triton(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model repository: a folder of models.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the model; default: the bundle's.")
    ] = None,
    instances: Annotated[
        int, typer.Option("--instances", min=1, help="At once, on each GPU or on the CPU.")
    ] = 1,
    max_batch_size: Annotated[
        int | None,
        typer.Option("--max-batch-size", min=0, help="Default: what the engine takes; 0: none."),
    ] = None,
    dynamic_batching: Annotated[
        bool,
        typer.Option(
            "--dynamic-batching/--no-dynamic-batching", help="Join requests that wait anyway."
        ),
    ] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a bundle as a model of a Triton Inference Server's model repository."""
    from pagdeploy.verbs.triton import bundle_triton

    with progress(quiet or as_json) as steps:
        result = bundle_triton(
            source,
            output,
            name=name,
            instances=instances,
            max_batch_size=max_batch_size,
            dynamic_batching=dynamic_batching,
            progress=steps,
        )
    if as_json:
        print_json(result)
        return
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    batches = f"batches of up to {result.max_batch_size}" if result.max_batch_size else "no batches"
    typer.echo(f"{result.path}: the model {result.name!r}, {batches}; start the server with")
    typer.echo(result.command, nl=False)
