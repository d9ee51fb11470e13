"""A profile as tables and one sentence, for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagdeploy.verbs.profile.result import (
    ENGINE,
    Against,
    Balance,
    Enqueue,
    OpRow,
    Peak,
    Point,
    ProfileResult,
    RooflinePoint,
    Saving,
    Worst,
)

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
    if result.worst is not None:
        found.append(_worst(result.worst))
    if result.ops:
        found.append(_ops(result.ops))
    if result.savings:
        found.append(_savings(result.savings))
    if result.balance is not None:
        found.append(_balance(result.balance))
    if result.roofline and result.peak is not None:
        found.append(_roofline(result.roofline, result.peak))
    if result.enqueue is not None:
        found.append(_enqueue(result.enqueue))
    if result.against is not None:
        found.append(_against(result, result.against))
    return found


def against_line(result: ProfileResult) -> str:
    """The comparison with another bundle in one sentence; empty without one."""
    if result.against is None:
        return ""
    found, name = result.against, Path(result.bundle).name
    interval = (
        f"{found.speedup.ratio:.3f} times as fast as {Path(found.bundle).name}"
        f" (95 % interval {found.speedup.low:.3f} to {found.speedup.high:.3f})"
    )
    if found.verdict == "within noise":
        return f"{name} is {interval}: the difference is within noise"
    return f"{name} is {found.verdict}: {interval}"


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


def _savings(savings: Sequence[Saving]) -> Table:
    rows: list[Row] = [
        [
            saving.name + "".join(f" + {other}" for other in saving.fused),
            saving.density,
            saving.dense_macs / 1e6,
            saving.needed_macs / 1e6,
            "" if saving.plain_ms is None else saving.plain_ms,
            saving.masked_ms,
            saving.engine_ms,
            saving.allowed_ms,
            saving.gap_ms,
        ]
        for saving in savings
    ]
    return Table(
        "Where the savings went: what the multiply-adds allow, and the gap to it",
        ["convolution", "density", "dense MMAC", "needed MMAC", "plain ms", "masked ms",
         "engine ms", "allowed ms", "gap ms"],
        rows,
    )  # fmt: skip


def _balance(balance: Balance) -> Table:
    return Table(
        "From the plain dense network to the engine, ms of nodes",
        ["step", "ms"],
        [
            ["plain dense network", balance.plain_ms],
            ["what the multiply-adds would save", -balance.possible_ms],
            ["gap of the perforated convolutions", balance.gap_ms],
            ["gates", balance.gates_ms],
            ["all other nodes, beyond the plain network's", balance.others_ms],
            ["engine", balance.engine_ms],
        ],
    )


def _roofline(points: Sequence[RooflinePoint], peak: Peak) -> Table:
    return Table(
        f"Roofline: this machine reaches {peak.gflops:.3g} GFLOP/s and {peak.gbytes:.3g} GB/s"
        f" (GPU: {peak.gpu})",
        ["convolution", "MFLOP", "MB", "FLOP / byte", "GFLOP/s", "roof", "limit", "of the roof"],
        [
            [
                point.name,
                point.operations / 1e6,
                point.bytes / 1e6,
                point.intensity,
                point.gflops,
                point.roof_gflops,
                point.limit,
                point.share,
            ]
            for point in points
        ],
    )


def _worst(worst: Worst) -> Table:
    rows: list[Row] = [
        ["slowest", worst.point.label],
        ["median ms", worst.point.latency[ENGINE].median_ms],
        ["longest run, ms", worst.point.latency[ENGINE].max_ms],
        ["over the request as it is", worst.over_request],
    ]
    for name, (ratio, label) in worst.least_ratio.items():
        rows.append([f"least ratio over {name}, at {label}", ratio])
    return Table(f"Worst case of {len(worst.tried)} forced decisions", ["what", "value"], rows)


def _enqueue(enqueue: Enqueue) -> Table:
    return Table(
        "A run of the plan, median ms",
        ["enqueue, host", "execution, GPU", "bound by the host"],
        [[enqueue.host_ms, enqueue.gpu_ms, "yes" if enqueue.bound else "no"]],
    )


def _against(result: ProfileResult, against: Against) -> Table:
    return Table(
        f"Against another bundle, in {against.speedup.rounds} rounds",
        ["bundle", "lowering", "precision", "median", "mean", "min", "max", "runs"],
        [
            [name, lowering, precision, t.median_ms, t.mean_ms, t.min_ms, t.max_ms, t.runs]
            for name, lowering, precision, t in (
                (Path(result.bundle).name, result.lowering, result.precision, against.own),
                (Path(against.bundle).name, against.lowering, against.precision, against.other),
            )
        ],
    )
