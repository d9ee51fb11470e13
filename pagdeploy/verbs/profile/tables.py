"""A profile as tables and one sentence, for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagdeploy.verbs.profile.result import ENGINE, OpRow, Point, ProfileResult

Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Table:
    """A table with its title; a cell that has nothing to say is empty."""

    title: str
    columns: list[str]
    rows: list[Row]


def headline(result: ProfileResult) -> str:
    """The result in one sentence; it names every baseline."""
    point = result.request
    ratios = [
        f"{ratio:.2f} times as fast as the {name} network (arithmetic alone:"
        f" {point.ceiling[name]:.2f})"
        for name, ratio in point.ratio.items()
    ]
    median = point.latency[ENGINE].median_ms
    return f"{Path(result.bundle).name} takes {median:.3g} ms (median)" + "".join(
        f", {ratio}" for ratio in ratios
    )


def tables(result: ProfileResult) -> list[Table]:
    """Everything that was measured."""
    found = [_latencies(result.request)]
    if result.densities:
        title = f"Forced decisions ({result.texture}); ratio over each baseline, and its ceiling"
        found.append(_sweep(title, "density", result.densities))
    if result.budgets:
        found.append(_sweep("Budgets", "budget", result.budgets))
    if result.ops:
        found.append(_ops(result.ops))
    return found


def _latencies(point: Point) -> Table:
    percentiles = list(point.latency[ENGINE].percentiles_ms)
    return Table(
        f"Latency in ms at a mean density of {point.density:.2f}",
        ["candidate", "median", "mean", *(f"p{p}" for p in percentiles), "min", "max", "runs",
         "ratio", "ceiling"],
        [
            [
                name,
                found.median_ms,
                found.mean_ms,
                *found.percentiles_ms.values(),
                found.min_ms,
                found.max_ms,
                found.runs,
                point.ratio.get(name, ""),
                point.ceiling[name] if name in point.ratio else "",
            ]
            for name, found in point.latency.items()
        ],
    )  # fmt: skip


def _sweep(title: str, asked: str, points: Sequence[Point]) -> Table:
    baselines = list(points[0].ratio)
    columns = [asked] + (["mean density"] if asked != "density" else [])
    columns += [f"{name} ms" for name in points[0].latency]
    columns += [text for name in baselines for text in (f"over {name}", "ceiling")]
    rows: list[Row] = []
    for point in points:
        row: list[str | int | float] = ["" if point.asked is None else point.asked]
        row += [point.density] if asked != "density" else []
        row += [latency.median_ms for latency in point.latency.values()]
        row += [v for name in baselines for v in (point.ratio[name], point.ceiling[name])]
        rows.append(row)
    return Table(title, columns, rows)


def _ops(ops: Sequence[OpRow]) -> Table:
    return Table(
        "Where the time goes: median ms of nodes, masked dense and engine",
        ["node or op", "gate", "density", "dense MMAC", "engine MMAC", "dense ms", "engine ms",
         "saved ms"],
        [
            [
                row.name if row.kind != "other" else f"all other {row.name}",
                row.gate,
                "" if row.density is None else row.density,
                "" if row.dense_macs is None else row.dense_macs / 1e6,
                "" if row.engine_macs is None else row.engine_macs / 1e6,
                row.dense_ms,
                row.engine_ms,
                row.saved_ms,
            ]
            for row in ops
        ],
    )  # fmt: skip
