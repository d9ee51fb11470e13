"""pagdeploy run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from pagdeploy.cli.console import (
    HostCode,
    Inputs,
    Json,
    Quiet,
    print_json,
    progress,
    reported,
    table,
)


@reported
def run(
    bundle: Annotated[Path, typer.Argument(help="Bundle.")],
    inputs: Inputs = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Resize images to this.")
    ] = None,
    save_outputs: Annotated[
        Path | None, typer.Option("--save-outputs", help="Folder for .npy and .png files.")
    ] = None,
    allow_host_code: HostCode = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a bundle on a photo or on arrays; without --input, on its own sample."""
    from pagdeploy.verbs.run import parse_size
    from pagdeploy.verbs.run import run as run_bundle

    with progress(quiet or as_json) as steps:
        outputs = run_bundle(
            bundle,
            inputs or [],
            size=parse_size(size) if size else None,
            allow_host_code=allow_host_code,
            save_outputs=save_outputs,
            progress=steps,
        )
    rows = [
        [name, str(a.dtype), "x".join(map(str, a.shape)), *_extremes(a)]
        for name, a in outputs.items()
    ]
    columns = ["name", "dtype", "shape", "min", "max"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        table("Outputs and selections", columns, rows)


def _extremes(array: Any) -> tuple[float, float]:
    return (float(array.min()), float(array.max())) if array.size else (math.nan, math.nan)
