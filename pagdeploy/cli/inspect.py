"""pagdeploy inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagdeploy.cli.console import Json, print_json, reported, table

if TYPE_CHECKING:
    from pagdeploy.manifest import Manifest
    from pagdeploy.verbs.inspect import ModelSummary


@reported
def inspect(
    file: Annotated[Path, typer.Argument(help="ONNX file or bundle.")],
    as_json: Json = False,
) -> None:
    """Show what a model or bundle is; nothing of it is run."""
    from pagdeploy.manifest import Manifest
    from pagdeploy.verbs.inspect import inspect as look

    summary = look(file)
    if as_json:
        print_json(summary)
    elif isinstance(summary, Manifest):
        _show_bundle(summary)
    else:
        _show_model(summary)


def _show_bundle(manifest: Manifest) -> None:
    info, host = manifest.engine, manifest.host
    typer.echo(f"bundle by pagdeploy {manifest.pagdeploy_version}, every file as it was built")
    measured = ", ".join(f"{name} {ms:.1f} ms" for name, ms in info.measured_ms.items())
    typer.echo(f"engine: {info.flavour} {info.version}, {info.precision}, {info.lowering}")
    typer.echo(f"measured on its sample: {measured}")
    typer.echo(f"built on: {host.system}, {host.machine}, Python {host.python}")
    rows = [
        [kind, t.name, t.dtype, "x".join(map(str, t.shape)), "x".join(map(str, t.sample_shape))]
        for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs))
        for t in tensors
    ]
    table("Interface", ["", "name", "dtype", "shape", "sample"], rows)
    table(
        "Gates, densities on the sample",
        ["gate", "share of each branch"],
        [[g.name, " ".join(f"{d:.3f}" for d in g.density)] for g in manifest.gates],
    )
    table(
        "Perforated convolutions",
        ["node", "lowering"],
        [[o.name, o.lowering] for o in manifest.ops],
    )


def _show_model(summary: ModelSummary) -> None:
    typer.echo(
        f"{summary.form} ONNX model by {summary.producer or 'unknown'}: opset {summary.opset},"
        f" IR {summary.ir_version}, {summary.parameters:,} weights"
    )
    for kind, values in (("input", summary.inputs), ("output", summary.outputs)):
        for value in values:
            typer.echo(f"{kind:>7}  {value}")
    table("Nodes", ["op", "count"], list(summary.ops.items()))
    if summary.perforated:
        table(
            f"Perforated convolutions behind {len(summary.gates)} gates",
            [
                "node",
                "kernel",
                "strides",
                "dilations",
                "group",
                "channels",
                "branch",
                "mode",
                "activation",
                "gate",
            ],
            [list(vars(row).values()) for row in summary.perforated],
        )
