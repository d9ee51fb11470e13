"""What `pagdeploy verify --layers`, `--bisect` and `--against` print."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import typer

from pagdeploy.cli.console import printable, table

if TYPE_CHECKING:
    from pagdeploy.check.compare import Comparison
    from pagdeploy.verbs.against import Against
    from pagdeploy.verbs.layers import Layer
    from pagdeploy.verbs.proof import Verification

_SHOWN = 12  # layers; all of them are in the JSON


def show_closer(result: Verification) -> None:
    """Print what a verification was asked for beyond gates and outputs."""
    if result.layers:
        _show_layers(result.layers, result.precision)
    if result.against is not None:
        _show_against(result.against)
    for finding in result.findings:
        typer.echo(printable(f"finding: {finding}"))
    if result.builds is not None:
        _show_fault(result)


def _show_layers(layers: Sequence[Layer], precision: str) -> None:
    worst = sorted(layers, key=_strain, reverse=True)[:_SHOWN]
    half = precision == "fp16"
    columns = ["layer", "nodes", "own error", "bound", "drift", "bound", "lowest", "highest"]
    columns += ["NaN/Inf", *(["saturated"] if half else []), "verdict"]
    table(
        f"Layers: the {len(worst)} nearest to their bounds, of {len(layers)}",
        columns,
        [
            [
                layer.value,
                _few(layer.nodes),
                layer.own.error,
                layer.own.bound,
                *((layer.drift.error, layer.drift.bound) if layer.drift else ("", "")),
                layer.low,
                layer.high,
                layer.not_finite,
                *([layer.saturated] if half else []),
                "ok" if layer.own.passed else "FAILED",
            ]
            for layer in worst
        ],
    )


def _show_against(result: Against) -> None:
    for outputs, how in (
        (result.free, "each with its own decisions"),
        (result.forced, "with the same decisions"),
    ):
        if outputs:
            _show_outputs(f"Against {result.other}, {how}", outputs)
    if result.flips:
        flipped = {name: count for name, count in result.flips.items() if count}
        told = ", ".join(f"{name} {count}" for name, count in flipped.items()) or "none"
        typer.echo(printable(f"decisions that differ: {told}"))
    if result.note:
        typer.echo(printable(f"note: {result.note}"))


def _show_outputs(title: str, outputs: Sequence[Comparison]) -> None:
    table(
        title,
        ["output", "error / scale", "bound", "rms", "verdict"],
        [[o.name, o.error, o.bound, o.rms, "ok" if o.passed else "differs"] for o in outputs],
    )


def _show_fault(result: Verification) -> None:
    if result.fault is not None:
        typer.echo(printable(f"first fault: {result.fault.reason}"))
        typer.echo(printable(f"in the engine: {', '.join(result.fault.engine_nodes[:8])}"))
    elif result.passed:
        typer.echo(f"bisect: no layer is beyond its bound ({result.builds} builds)")
    else:
        typer.echo(f"bisect: no layer alone is beyond its bound ({result.builds} builds)")


def _strain(layer: Layer) -> float:
    """Of its own error, as a share of its bound."""
    return layer.own.error / layer.own.bound if layer.own.bound else inf


def _few(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more" if nodes else ""
