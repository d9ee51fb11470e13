"""The figures of a profile, drawn by matplotlib where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.verbs.profile.result import ENGINE, MASKED, PLAIN, Point, ProfileResult

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {ENGINE: "#0072B2", MASKED: "#D55E00", PLAIN: "#777777"}
_WIDTH, _LINE, _ROOM, _CURVE = 7.0, 0.3, 0.9, 3.2  # inches

Draw = Callable[[Any, ProfileResult], None]


def has_matplotlib() -> bool:
    """Whether figures can be drawn."""
    return find_spec("matplotlib") is not None


def require_matplotlib(plot: Path) -> None:
    """Refuse a figure that cannot be drawn.

    Raises:
        UsageError: the suffix names no format.
        EnvironmentProblem: matplotlib is not installed.
    """
    if plot.suffix.lower() not in FORMATS:
        raise UsageError(
            f"The suffix of {plot} names no format of a figure.",
            remedy=f"Choose one of: {', '.join(FORMATS)}.",
        )
    if not has_matplotlib():
        raise EnvironmentProblem.missing_extra("matplotlib", "report", "Drawing a figure")


def write_figure(path: Path, form: str, result: ProfileResult) -> None:
    """All panels below each other, in one file.

    Args:
        path: To write.
        form: "png", "svg" or "pdf".
        result: What to draw.
    """
    panels = _panels(result)
    figure = _figure([height for _, height in panels])
    for axis, (draw, _) in zip(figure.axes, panels, strict=True):
        draw(axis, result)
    figure.savefig(path, format=form, dpi=120)


def inline_figures(result: ProfileResult) -> list[str]:
    """Each panel as a whole SVG file; none without matplotlib."""
    if not has_matplotlib():
        return []
    import matplotlib

    found = []
    for draw, height in _panels(result):
        figure = _figure([height])
        draw(figure.axes[0], result)
        text = io.StringIO()
        # Text stays text: it can be searched and read aloud, and takes the page's font.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pagdeploy"}):
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(text, format="svg", metadata=nothing)
        found.append(text.getvalue())
    return found


def _panels(result: ProfileResult) -> list[tuple[Draw, float]]:
    """What there is to draw, with its height in inches."""
    panels: list[tuple[Draw, float]] = [
        (_draw_latency, _ROOM + _LINE * len(result.request.latency))
    ]
    if result.densities:
        panels.append((_draw_densities, _CURVE))
    if result.budgets:
        panels += [(_draw_budget_latency, _CURVE), (_draw_budget_density, 0.7 * _CURVE)]
    convolutions = sum(row.kind == "perforated" for row in result.ops)
    if convolutions:
        panels.append((_draw_ops, _ROOM + _LINE * (convolutions + 1)))
    if result.balance is not None:
        panels.append((_draw_balance, _ROOM + _LINE * 6))
    if result.roofline and result.peak is not None:
        panels.append((_draw_roofline, 1.2 * _CURVE))
    return panels


def _figure(heights: Sequence[float]) -> Any:
    from matplotlib.figure import Figure  # without pyplot there is no global state

    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, alpha=0.25)
        axis.set_axisbelow(True)
    return figure


def _draw_latency(axis: Any, result: ProfileResult) -> None:
    found = result.request.latency
    last = list(next(iter(found.values())).percentiles_ms)[-1]
    for row, (name, latency) in enumerate(found.items()):
        high = latency.percentiles_ms[last] - latency.median_ms
        reach = [[latency.median_ms - latency.min_ms], [max(0.0, high)]]
        axis.barh(row, latency.median_ms, xerr=reach, color=_COLOURS[name], capsize=3, height=0.6)
        axis.annotate(f" {latency.median_ms:.3g}", (0, row), color="white", va="center")
    axis.set(yticks=range(len(found)), yticklabels=list(found), xlabel="ms")
    axis.invert_yaxis()
    axis.set_title(f"Latency: median, and minimum to p{last}", loc="left")


def _draw_densities(axis: Any, result: ProfileResult) -> None:
    x = [point.asked for point in result.densities]
    for name in result.baselines:
        colour = _COLOURS[name]
        measured = [point.ratio[name] for point in result.densities]
        ceiling = [point.ceiling[name] for point in result.densities]
        axis.plot(x, measured, "o-", color=colour, label=f"over {name}")
        axis.plot(x, ceiling, ":", color=colour, label=f"if only arithmetic counted, {name}")
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="density", ylabel="speed-up", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(f"Speed-up of the engine, decisions forced ({result.texture})", loc="left")


def _draw_budget_latency(axis: Any, result: ProfileResult) -> None:
    x = [point.asked for point in result.budgets]
    for name in result.budgets[0].latency:
        y = [point.latency[name].median_ms for point in result.budgets]
        axis.plot(x, y, "o-", color=_COLOURS[name], label=name)
    axis.set(xlabel="budget", ylabel="median, ms", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    axis.set_title("Latency against the budget", loc="left")


def _draw_budget_density(axis: Any, result: ProfileResult) -> None:
    def of(read: Callable[[Point], float | None]) -> list[float | None]:
        return [read(point) for point in result.budgets]

    axis.plot(of(lambda p: p.asked), of(lambda p: p.density), "o-", color="black")
    axis.set(xlabel="budget", ylabel="mean density", ylim=(0, 1.02))
    axis.set_title("Density against the budget", loc="left")


def _draw_ops(axis: Any, result: ProfileResult) -> None:
    rows = [row for row in result.ops if row.kind == "perforated"]
    for offset, name, times in (
        (-0.2, MASKED, [row.dense_ms for row in rows]),
        (0.2, ENGINE, [row.engine_ms for row in rows]),
    ):
        where = [number + offset for number in range(len(rows))]
        axis.barh(where, times, height=0.4, color=_COLOURS[name], label=name)
    labels = [row.name if row.density is None else f"{row.name} {row.density:.2f}" for row in rows]
    axis.set(xlabel="ms")
    axis.set_yticks(range(len(rows)), labels, fontsize=8, parse_math=False)  # "$" is a character
    axis.invert_yaxis()
    axis.set_xlim(0, 1.4 * max(1e-9, *(t for r in rows for t in (r.dense_ms, r.engine_ms))))
    axis.legend(frameon=False, fontsize=8, loc="upper right")  # where no bar reaches
    axis.set_title("Perforated convolutions with their densities", loc="left")


def _draw_balance(axis: Any, result: ProfileResult) -> None:
    """A waterfall: where the milliseconds go between the plain dense network and the engine."""
    found = result.balance
    assert found is not None, "only what was measured is drawn"
    steps = (
        ("saved by fewer multiply-adds", -found.possible_ms),
        ("lost in perforated convolutions", found.gap_ms),
        ("gates", found.gates_ms),
        ("all other nodes", found.others_ms),
    )
    axis.barh(0, found.plain_ms, color=_COLOURS[PLAIN], height=0.6)
    level = found.plain_ms
    for row, (_, change) in enumerate(steps, 1):
        colour = "#009E73" if change < 0 else "#D55E00"
        axis.barh(row, change, left=level, color=colour, height=0.6)
        axis.plot([level, level], [row - 1, row], color="black", linewidth=0.6)
        level += change
    axis.barh(len(steps) + 1, found.engine_ms, color=_COLOURS[ENGINE], height=0.6)
    labels = ["plain dense", *(name for name, _ in steps), "engine"]
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="ms of nodes", xlim=(min(0.0, level), None))
    axis.invert_yaxis()
    axis.set_title("Where the savings went", loc="left")


def _draw_roofline(axis: Any, result: ProfileResult) -> None:
    """What each perforated convolution reaches below the machine's two roofs."""
    peak, points = result.peak, result.roofline
    assert peak is not None, "only what was measured is drawn"
    x = [point.intensity for point in points]
    ridge = peak.gflops / peak.gbytes
    ends = [min(*x, ridge) / 3, ridge, max(*x, ridge) * 3]
    axis.loglog(ends, [min(peak.gflops, i * peak.gbytes) for i in ends], color="black")
    axis.loglog(x, [point.gflops for point in points], "o", color=_COLOURS[ENGINE])
    for point in points:
        # "$" is a character, and names are short enough only at their ends.
        name = point.name if len(point.name) <= 24 else f"...{point.name[-21:]}"
        at = (point.intensity, point.gflops)
        axis.annotate(name, at, (4, -3), textcoords="offset points", fontsize=6, parse_math=False)
    axis.set(xlabel="operations a byte", ylabel="GFLOP/s")
    axis.set_title(f"Roofline: {peak.gflops:.3g} GFLOP/s and {peak.gbytes:.3g} GB/s", loc="left")
