"""Gates: what each decides, where the engine decides otherwise, and how near to a tie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.report.html import paragraph, table, tiles
from pagdeploy.verbs.verify_page.pictures import MOST_TILES, is_map

if TYPE_CHECKING:
    from pagdeploy.report.html import Html
    from pagdeploy.verbs.proof import Evidence, Verification

_BINS_PER_DECADE, _DECADES = 4, (-3, 5)  # of the histogram of margins


def gates(result: Verification, evidence: Evidence) -> Iterator[object]:
    """The branch of each pixel, and what was counted."""
    from pagdeploy.report.maps import branch_tile

    if not result.gates:
        return
    found = []
    for gate, computes, judged in zip(evidence.gates, evidence.computes, result.gates, strict=True):
        selection = evidence.reference[gate.selection]
        if is_map(selection):
            branches = len(judged.density)
            known = computes or range(branches)
            found.append(branch_tile(gate.name, selection[0, 0], branches, list(known)))
    yield paragraph(
        "The branch that the reference takes at each pixel, with the share of each. A pale branch"
        " computes nothing."
    )
    yield tiles(found[:MOST_TILES])
    if len(found) > MOST_TILES:
        yield paragraph(
            f"{len(found) - MOST_TILES} more gates are in the table only.", kind="small"
        )
    computing = {gate.name: k for gate, k in zip(evidence.gates, evidence.computes, strict=True)}
    yield table(
        ["gate", "pixels", "computes", "share", "flips", "flips, earlier gates forced",
         "unexplained", "worst margin", "bound", "error of logits"],
        [
            [
                g.name,
                g.pixels,
                " ".join(map(str, computing[g.name])) or "nothing",
                float(sum(g.density[k] for k in computing[g.name] if k < len(g.density))),
                g.flips,
                g.forced_flips,
                g.unexplained,
                g.worst_margin,
                g.margin_bound,
                g.logit_error,
            ]
            for g in result.gates
        ],
    )  # fmt: skip


def flips(result: Verification, evidence: Evidence) -> Iterator[object]:
    """Where the engine decides otherwise, and the margins of all decisions."""
    from pagdeploy.check.gates import margins_of
    from pagdeploy.graph.gates import OWN
    from pagdeploy.report.maps import flip_tile

    if not result.gates:
        return
    found, shares, flipped = [], [], []
    for gate, judged in zip(evidence.gates, result.gates, strict=True):
        reference = evidence.reference[gate.selection]
        free = evidence.free[gate.selection]
        forced = evidence.forced.get(gate.selection + OWN, free)
        if not free.shape == forced.shape == reference.shape:
            continue
        margins = margins_of(evidence.reference[gate.logits], forced)  # (N, 1, H, W)
        differs = forced != reference
        bound = judged.margin_bound
        shares.append((margins / bound if bound else np.where(margins > 0, np.inf, 0.0)).ravel())
        flipped.append(differs.ravel())
        if (judged.flips or judged.forced_flips) and is_map(reference):
            maps = (differs, differs & (margins > bound), free != reference)
            found.append(flip_tile(gate.name, *(each[0, 0] for each in maps)))
    if found:
        yield paragraph(
            "Where reference and engine decide differently. Near a tie, rounding may turn a"
            " decision: the reference's two best logits differ by no more than the bound of the"
            " precision. Such a flip may cause others behind it. Large maps are reduced so that a"
            " single pixel stays visible."
        )
        yield tiles(found[:MOST_TILES])
    else:
        yield paragraph("None: at every pixel the engine takes the reference's branch.")
    if shares:
        yield _margins(np.concatenate(shares), np.concatenate(flipped))


def _margins(shares: npt.NDArray[Any], flipped: npt.NDArray[np.bool_]) -> Html:
    """How near to a tie decisions are, in units of the bound: all, and those that differ."""
    from pagdeploy.report.charts import Bars, histogram

    low, high = _DECADES
    bins = (high - low) * _BINS_PER_DECADE
    with np.errstate(divide="ignore"):
        place = np.nan_to_num((np.log10(shares) - low) * _BINS_PER_DECADE, posinf=bins, neginf=0)
    place = np.clip(place, 0, bins - 1).astype(np.int64)
    counts = [np.bincount(p, minlength=bins).tolist() for p in (place, place[flipped])]
    words = {low: f"\u2264 {10.0**low:g}", high: f"\u2265 {10**high:,}"}
    return histogram(
        [Bars("all decisions", "#8a9ba8", counts[0]), Bars("differ", "#e69f00", counts[1])],
        [
            ((power - low) * _BINS_PER_DECADE, words.get(power, f"{10.0**power:g}"))
            for power in range(low, high + 1, 2)
        ],
        (-low * _BINS_PER_DECADE, "bound"),
        "margin of the reference's decision / bound",
    )
