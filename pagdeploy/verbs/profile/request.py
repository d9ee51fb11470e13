"""What a profile is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagdeploy.errors import UsageError
from pagdeploy.measure.latency import Effort
from pagdeploy.measure.textures import TEXTURES


@dataclass(frozen=True)
class Reports:
    """Files to write; each is complete or not there.

    Attributes:
        times: Every run of the engine, as `trtexec --exportTimes`.
        profile: Every node of the engine, as `trtexec --exportProfile`.
        layers: What every node of the engine is, as `trtexec --exportLayerInfo`.
        html: The report, one page that needs nothing else.
        plot: Its figures alone, in the format that the suffix names.
    """

    times: Path | None = None
    profile: Path | None = None
    html: Path | None = None
    plot: Path | None = None
    layers: Path | None = None


@dataclass(frozen=True)
class Sweep:
    """Further requests to measure.

    Attributes:
        densities: Shares of active pixels to force, each between 0 and 1.
        texture: How they are spread; a key of `measure.textures.TEXTURES`.
        seed: Of the spread.
        budgets: Values of the budget input.
        worst: Search for the slowest decisions.
    """

    densities: Sequence[float] = ()
    texture: str = "pag"
    seed: int = 0
    budgets: Sequence[float] = ()
    worst: bool = False


def check_request(effort: Effort, percentiles: Sequence[float], sweep: Sweep) -> None:
    """Refuse settings that cannot be meant.

    Raises:
        UsageError: one is out of its range.
    """
    for wrong, what, remedy in (
        (effort.iterations < 1, "number of iterations", "Give 1 or more."),
        (not 0 <= effort.warm_up_ms <= 1e7, "warm-up", "Give milliseconds, such as 200."),
        (not 0 <= effort.duration_s <= 1e5, "duration", "Give seconds, such as 3."),
        (
            not percentiles or not all(0 < p <= 100 for p in percentiles),
            "list of percentiles",
            "Give numbers above 0, up to 100, such as 90,95,99.",
        ),
        (
            not all(0 <= density <= 1 for density in sweep.densities),
            "list of densities",
            "Give shares between 0 and 1, such as 0.1,0.5,1.",
        ),
        (
            any(math.isnan(budget) for budget in sweep.budgets),
            "list of budgets",
            "Give numbers, such as -1,0,1.",
        ),
        (sweep.seed < 0, "seed", "Give 0 or more."),
        (sweep.texture not in TEXTURES, "texture", f"Choose one of: {', '.join(TEXTURES)}."),
    ):
        if wrong:
            raise UsageError(f"The {what} cannot be right.", remedy=remedy)
