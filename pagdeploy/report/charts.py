"""Charts that need no drawing library and take the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

from pagdeploy.report.html import Html, element, join

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 520, 230, 46, 42, 24


@dataclass(frozen=True)
class Bars:
    """One series of a histogram.

    Attributes:
        name: For the legend.
        colour: Of CSS.
        heights: One a bin, at least 0.
    """

    name: str
    colour: str
    heights: Sequence[int]


def histogram(
    series: Sequence[Bars], ticks: Sequence[tuple[float, str]], line: tuple[float, str], label: str
) -> Html:
    """Counts by bin on a logarithmic axis, later series in front of earlier ones.

    Args:
        series: Of equally many bins.
        ticks: Where on the axis, in bins from its left end, and what to write there.
        line: Likewise of an upright line.
        label: Of the axis, and what the chart shows.
    """
    bins = len(series[0].heights)
    most = max(1, *(height for each in series for height in each.heights))
    decades = len(str(most))  # the axis ends at 10 ** decades
    right, foot = _WIDTH - 8, _HEIGHT - _BOTTOM

    def x(position: float) -> float:
        return round(_LEFT + (right - _LEFT) * position / bins, 1)

    def y(value: int) -> float:
        share = 0.0 if value <= 0 else (0.3 + log10(value)) / (0.3 + decades)  # one is visible
        return round(foot - (foot - _TOP) * share, 1)

    parts: list[Html] = []
    for decade in range(decades + 1):
        at = y(10**decade)
        parts.append(_line(_LEFT, at, right, at, opacity=0.2))
        text = f"{10**decade:,}" if decade < 4 else f"{10 ** (decade - 3):,}k"
        parts.append(element("text", text, x=_LEFT - 6, y=at + 4, text_anchor="end"))
    for each in series:
        parts += [
            element(
                "rect",
                element("title", f"{each.name}: {height:,}"),
                x=x(index) + 0.5,
                y=y(height),
                width=round(x(index + 1) - x(index) - 1, 1),
                height=round(foot - y(height), 1),
                fill=each.colour,
            )
            for index, height in enumerate(each.heights)
            if height
        ]
    parts.append(_line(_LEFT, foot, right, foot))
    for position, text in ticks:
        anchor = {0: "start", bins: "end"}.get(int(position), "middle")  # inside of the chart
        parts.append(_line(x(position), foot, x(position), foot + 4))
        parts.append(element("text", text, x=x(position), y=foot + 17, text_anchor=anchor))
    parts.append(_line(x(line[0]), _TOP - 6, x(line[0]), foot, dashed=True))
    parts.append(element("text", line[1], x=x(line[0]) + 5, y=_TOP - 8))
    parts.append(element("text", label, x=(_LEFT + right) / 2, y=_HEIGHT - 4, text_anchor="middle"))
    drawn = element(
        "svg",
        join(parts),
        viewbox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
        kind="chart",
    )
    keys = [
        element(
            "li",
            element(
                "svg",
                element("rect", width=12, height=12, fill=each.colour),
                width=12,
                height=12,
                kind="swatch",
                aria_hidden="true",
            ),
            f" {each.name}",
        )
        for each in series
    ]
    return element("figure", drawn, element("ul", join(keys), kind="legend"))


def _line(
    x1: float, y1: float, x2: float, y2: float, *, opacity: float = 1, dashed: bool = False
) -> Html:
    dashes = "4 3" if dashed else None
    return element(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, kind="axis", opacity=opacity, stroke_dasharray=dashes
    )
