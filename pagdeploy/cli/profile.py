"""pagdeploy profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pagdeploy.cli.console import (
    HostCode,
    Inputs,
    Json,
    Quiet,
    Shapes,
    print_json,
    progress,
    reported,
    table,
)
from pagdeploy.errors import UsageError

_SWEEP, _REPORTS = "Sweeps", "Reports"


@reported
def profile(
    bundle: Annotated[Path, typer.Argument(help="Bundle.")],
    inputs: Inputs = None,
    shapes: Shapes = None,
    iterations: Annotated[int, typer.Option(help="Timed runs, at least.")] = 10,
    warm_up: Annotated[float, typer.Option(help="Milliseconds of untimed runs before.")] = 200.0,
    duration: Annotated[float, typer.Option(help="Seconds of timed runs, at least.")] = 3.0,
    percentile: Annotated[str, typer.Option(help="Comma separated.")] = "90,95,99",
    threads: Annotated[int, typer.Option(min=0, help="Per operator; 0 is one per core.")] = 0,
    density: Annotated[
        str,
        typer.Option(
            metavar="0.1,0.5,1",
            help="Force the gates to these shares of active pixels.",
            rich_help_panel=_SWEEP,
        ),
    ] = "",
    texture: Annotated[
        str,
        typer.Option(
            help="How forced pixels are spread: salt, pag, blob or block.", rich_help_panel=_SWEEP
        ),
    ] = "pag",
    seed: Annotated[int, typer.Option(help="Of the spread.", rich_help_panel=_SWEEP)] = 0,
    budget: Annotated[
        str,
        typer.Option(
            metavar="-1,0,1",
            help="Values of the budget input; see 'export --budget-input'.",
            rich_help_panel=_SWEEP,
        ),
    ] = "",
    worst_case: Annotated[
        bool,
        typer.Option(
            "--worst-case",
            help="Search for the slowest decisions: every texture at several densities.",
            rich_help_panel=_SWEEP,
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Time another bundle in turn with this one, and say which is faster.",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Report, one page.", rich_help_panel=_REPORTS)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Figures: .png, .svg or .pdf.", rich_help_panel=_REPORTS),
    ] = None,
    export_times: Annotated[
        Path | None,
        typer.Option(help="Every run, in trtexec's JSON.", rich_help_panel=_REPORTS),
    ] = None,
    export_profile: Annotated[
        Path | None,
        typer.Option(help="Every node, in trtexec's JSON.", rich_help_panel=_REPORTS),
    ] = None,
    export_layer_info: Annotated[
        Path | None,
        typer.Option(help="What every node is, in trtexec's JSON.", rich_help_panel=_REPORTS),
    ] = None,
    allow_host_code: HostCode = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time a bundle beside its two dense baselines, and show where the time goes."""
    from pagdeploy.measure.latency import Effort
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested
    from pagdeploy.verbs.profile import profile as run
    from pagdeploy.verbs.profile.request import Reports, Sweep
    from pagdeploy.verbs.profile.tables import against_line, headline, tables

    sweep = Sweep(
        densities=_numbers(density, "--density"),
        texture=texture,
        seed=seed,
        budgets=_numbers(budget, "--budget"),
        worst=worst_case,
    )
    reports = Reports(
        times=export_times,
        profile=export_profile,
        layers=export_layer_info,
        html=html,
        plot=plot,
    )
    with progress(quiet or as_json) as steps:
        result = run(
            bundle,
            inputs=requested(inputs, shapes or [], input_names(bundle)) if inputs else None,
            shapes=parse_shapes(shapes or []),
            effort=Effort(iterations, warm_up, duration),
            percentiles=_numbers(percentile, "--percentile"),
            sweep=sweep,
            against=against,
            threads=threads,
            allow_host_code=allow_host_code,
            reports=reports,
            progress=steps,
        )
    if as_json:
        print_json(result)
        return
    for shown in tables(result):
        table(shown.title, shown.columns, shown.rows)
    for name, meaning in result.baselines.items():
        typer.echo(f"{name}: {meaning}")
    typer.echo("ceiling: the ratio if only multiply-adds counted")
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    for path in vars(reports).values():
        if path is not None:
            typer.echo(f"wrote {path}")
    typer.echo(headline(result))
    if result.against is not None:
        typer.echo(against_line(result))


def _numbers(text: str, flag: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(
            f"The numbers of {flag} cannot be read: {text!r}.",
            remedy="Write them with commas between, as in 0.1,0.5,1.",
        ) from None
