"""Outputs: their errors, at each pixel and in tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.report.html import details, element, join, note, paragraph, table, tiles
from pagdeploy.verbs.verify_page.pictures import MOST_TILES, is_map

if TYPE_CHECKING:
    from pagdeploy.check.compare import Comparison
    from pagdeploy.report.html import Html
    from pagdeploy.verbs.proof import Evidence, Verification


def outputs(result: Verification, evidence: Evidence) -> Iterator[object]:
    """Errors of the outputs."""
    from pagdeploy.report.maps import error_tile

    found = []
    for output in result.outputs:
        engine, reference = evidence.forced[output.name], evidence.reference[output.name]
        if engine.shape != reference.shape or not is_map(reference, channels=None):
            continue
        found.append(error_tile(output.name, _error(engine[0], reference), output.bound))
    if found:
        yield paragraph(
            "The largest difference among the channels of each pixel, as a share of the output's"
            " largest value, with the reference's decisions forced in."
        )
        yield tiles(found[:MOST_TILES])
    yield comparisons("On these inputs, with the reference's decisions forced in", result.outputs)
    yield comparisons("With random decisions, so that every branch is taken", result.branches)
    yield comparisons("The plan as deployed, held to one that shows its gates", result.plan)
    agree = "agree" if all(each.passed for each in result.sample) else "do not all agree"
    if result.sample:
        yield details(
            f"{len(result.sample)} stored answers of the reference {agree} with those of today",
            comparisons("The reference where the bundle was built, and here", result.sample),
        )
    if result.ties:
        yield note(f"Exact ties are not given to the lowest index by: {', '.join(result.ties)}.")


def against(result: Verification) -> Iterator[object]:
    """The comparison with another implementation, if there was one."""
    found = result.against
    if found is None:
        return
    yield paragraph(f"Held to {found.other}: {found.reason or 'the two agree.'}")
    if found.note is not None:
        yield note(found.note)
    yield comparisons("Each side with its own decisions", found.free)
    yield comparisons("The same decisions on both sides", found.forced)
    if found.flips:
        yield table(["gate", "decisions that differ"], list(found.flips.items()))


def comparisons(caption: str, compared: Sequence[Comparison]) -> Html:
    """A table of them; nothing if there are none."""
    if not compared:
        return join([])
    return table(
        ["output", "error / scale", "bound", "rms", "bound of rms", "worst at", "verdict"],
        [
            [
                each.name,
                each.error,
                each.bound,
                each.rms,
                each.rms_bound if np.isfinite(each.rms_bound) else "",
                ", ".join(map(str, each.worst)),
                verdict(each),
            ]
            for each in compared
        ],
        caption=caption,
    )


def verdict(comparison: Comparison) -> Html:
    """Whether it passed, as a coloured word."""
    good = comparison.passed
    return element(
        "span", element("strong", "ok" if good else "FAILED"), kind="good" if good else "bad"
    )


def _error(engine: npt.NDArray[Any], reference: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The largest scale-free error of each pixel of the first image, (H, W); as `compare`."""
    a, b = engine.astype(np.float64), reference[0].astype(np.float64)  # (C, H, W)
    whole = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    scale = float(whole.max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    worst: npt.NDArray[np.float64] = (
        np.where(np.isnan(difference), np.inf, difference).max(axis=0) / scale
    )
    return worst
