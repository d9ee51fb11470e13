"""The report of a verification: the verdict, and pictures of everything that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.report.html import (
    details,
    element,
    escape,
    facts,
    join,
    note,
    paragraph,
    table,
    tiles,
)
from pagdeploy.report.page import Page, Section, write_page

if TYPE_CHECKING:
    from pagdeploy.check.compare import Comparison
    from pagdeploy.report.html import Html
    from pagdeploy.verbs.proof import Evidence, Verification

Arrays = Mapping[str, npt.NDArray[Any]]
_MOST_TILES = 64  # of one kind; a page of thousands of pictures opens nowhere
_BINS_PER_DECADE, _DECADES = 4, (-3, 5)  # of the histogram of margins


@dataclass(frozen=True)
class Origin:
    """How the result came about.

    Attributes:
        command: As it was given.
        facts: Versions and digests by what they are of.
    """

    command: str
    facts: Mapping[str, str]


def verify_page(result: Verification, evidence: Evidence, origin: Origin) -> Page:
    """The report.

    Args:
        result: What was compared, and the verdict.
        evidence: The arrays behind it.
        origin: How to get the same again.
    """
    return Page(
        title=f"Verification of {Path(result.subject).name}",
        lead=sentence(result),
        passed=result.passed,
        sections=[
            Section("What ran", list(_what_ran(result, evidence))),
            Section("Gates", list(_gates(result, evidence))),
            Section("Decisions that differ", list(_flips(result, evidence))),
            Section("Outputs", list(_outputs(result, evidence))),
            Section("Another implementation", list(_against(result))),
            Section("The first fault", list(_fault(result))),
            Section("Layers", list(_layers(result))),
            Section("Warnings", [note(text) for text in (*result.warnings, *result.findings)]),
            Section("How to reproduce", [element("pre", origin.command), facts(origin.facts)]),
        ],
    )


def write_report(
    path: Path, result: Verification, evidence: Evidence, subject: Path, command: str | None
) -> None:
    """Write the report of what was just verified.

    Args:
        path: HTML file.
        result: What was compared, and the verdict.
        evidence: The arrays behind it.
        subject: Bundle or ONNX file.
        command: That it comes from; None is the call in Python.
    """
    from pagdeploy.files import replacing_file
    from pagdeploy.verbs.versions import digests, versions

    told = command or f"pagdeploy.verify({str(subject)!r})"
    page = verify_page(result, evidence, Origin(told, {**digests(subject), **versions()}))
    with replacing_file(path) as temporary:
        write_page(temporary, page)


def sentence(result: Verification) -> str:
    """The verdict in one sentence."""
    if result.reason is not None:
        return result.reason
    flips = sum(gate.forced_flips for gate in result.gates)
    pixels = sum(gate.pixels for gate in result.gates)
    error = max((output.error for output in result.outputs), default=0.0)
    if not result.gates:
        decisions = "it has no gates"
    elif flips:
        decisions = f"{flips:,} of {pixels:,} decisions differ, all of them near a tie"
    else:
        decisions = f"all {pixels:,} decisions agree"
    return (
        f"{Path(result.subject).name} ({result.lowering}, {result.precision}) computes the function"
        f" of the portable model: {decisions}, and outputs differ by at most {error:.2g} of their"
        " scale."
    )


def _what_ran(result: Verification, evidence: Evidence) -> Iterator[object]:
    from pagdeploy.report.maps import count_tile, photo_tile

    found = []
    for name, array in evidence.inputs.items():
        pixels = _photo(array)
        if pixels is not None:
            found.append(photo_tile(f"input {name}", pixels, _size(array)))
    maps = [
        np.isin(evidence.free[gate.selection][0, 0], computes)  # (h, w)
        for gate, computes in zip(evidence.gates, evidence.computes, strict=True)
        if computes
        and evidence.free[gate.selection].ndim == 4
        and evidence.free[gate.selection].size
    ]
    largest = max((mask.shape for mask in maps), key=lambda s: s[0] * s[1], default=(1, 1))
    if largest != (1, 1):  # decisions for whole images are no map
        title = "ponder map: gates that compute, per pixel"
        found.append(count_tile(title, _ponder(maps, largest), len(maps), "gates"))
    for output in result.outputs:
        pixels = _picture(evidence.forced[output.name])
        if pixels is not None:
            found.append(
                photo_tile(f"output {output.name}", pixels, _size(evidence.forced[output.name]))
            )
    yield tiles(found[:_MOST_TILES]) if found else ""
    batch = max((len(array) for array in evidence.inputs.values() if array.ndim), default=1)
    if found and batch > 1:
        yield paragraph(
            f"Pictures show the first of {batch} images; figures are of all.", kind="small"
        )
    rows = [
        [name, str(array.dtype), "x".join(map(str, array.shape)) or "scalar", *_range(array)]
        for name, array in evidence.inputs.items()
    ]
    yield table(["input", "dtype", "shape", "smallest", "largest"], rows)


def _gates(result: Verification, evidence: Evidence) -> Iterator[object]:
    from pagdeploy.report.maps import branch_tile

    if not result.gates:
        return
    found = []
    for gate, computes, judged in zip(evidence.gates, evidence.computes, result.gates, strict=True):
        selection = evidence.reference[gate.selection]
        if _is_map(selection):
            branches = len(judged.density)
            known = computes or range(branches)
            found.append(branch_tile(gate.name, selection[0, 0], branches, list(known)))
    yield paragraph(
        "The branch that the reference takes at each pixel, with the share of each. A pale branch"
        " computes nothing."
    )
    yield tiles(found[:_MOST_TILES])
    if len(found) > _MOST_TILES:
        yield paragraph(
            f"{len(found) - _MOST_TILES} more gates are in the table only.", kind="small"
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


def _flips(result: Verification, evidence: Evidence) -> Iterator[object]:
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
        if (judged.flips or judged.forced_flips) and _is_map(reference):
            maps = (differs, differs & (margins > bound), free != reference)
            found.append(flip_tile(gate.name, *(each[0, 0] for each in maps)))
    if found:
        yield paragraph(
            "Where reference and engine decide differently. Near a tie, rounding may turn a"
            " decision: the reference's two best logits differ by no more than the bound of the"
            " precision. Such a flip may cause others behind it. Large maps are reduced so that a"
            " single pixel stays visible."
        )
        yield tiles(found[:_MOST_TILES])
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


def _outputs(result: Verification, evidence: Evidence) -> Iterator[object]:
    from pagdeploy.report.maps import error_tile

    found = []
    for output in result.outputs:
        engine, reference = evidence.forced[output.name], evidence.reference[output.name]
        if engine.shape != reference.shape or not _is_map(reference, channels=None):
            continue
        found.append(error_tile(output.name, _error(engine[0], reference), output.bound))
    if found:
        yield paragraph(
            "The largest difference among the channels of each pixel, as a share of the output's"
            " largest value, with the reference's decisions forced in."
        )
        yield tiles(found[:_MOST_TILES])
    yield _comparisons("On these inputs, with the reference's decisions forced in", result.outputs)
    yield _comparisons("With random decisions, so that every branch is taken", result.branches)
    yield _comparisons("The plan as deployed, held to one that shows its gates", result.plan)
    agree = "agree" if all(each.passed for each in result.sample) else "do not all agree"
    if result.sample:
        yield details(
            f"{len(result.sample)} stored answers of the reference {agree} with those of today",
            _comparisons("The reference where the bundle was built, and here", result.sample),
        )
    if result.ties:
        yield note(f"Exact ties are not given to the lowest index by: {', '.join(result.ties)}.")


def _comparisons(caption: str, compared: Sequence[Comparison]) -> Html:
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
                _verdict(each),
            ]
            for each in compared
        ],
        caption=caption,
    )


def _against(result: Verification) -> Iterator[object]:
    found = result.against
    if found is None:
        return
    yield paragraph(f"Held to {found.other}: {found.reason or 'the two agree.'}")
    if found.note is not None:
        yield note(found.note)
    yield _comparisons("Each side with its own decisions", found.free)
    yield _comparisons("The same decisions on both sides", found.forced)
    if found.flips:
        yield table(["gate", "decisions that differ"], list(found.flips.items()))


def _fault(result: Verification) -> Iterator[object]:
    if result.builds is None:
        return
    found = result.fault
    if found is None:
        yield paragraph(f"None was found, with {result.builds} engines built to look for it.")
        return
    yield note(found.reason)
    yield facts(
        {
            "value": found.value,
            "nodes of the reference": ", ".join(found.nodes),
            "nodes of the engine": ", ".join(found.engine_nodes),
            "engines built to find it": found.builds,
        }
    )


def _layers(result: Verification) -> Iterator[object]:
    layers = result.layers
    yield _comparisons(
        "The model as the lowering saw it, held to the portable one", result.recognition
    )
    if not layers:
        return
    yield paragraph(
        "A layer ends at a value that reference and engine both compute by name. Its own error is"
        " what it makes of the reference's inputs; its drift is its error in the running engine,"
        " all earlier layers included."
    )
    yield table(
        ["", "value", "own error", "bound", "drift", "bound of drift", "largest value",
         "not finite", "saturated", "verdict", "nodes", "nodes of the engine"],
        [
            [
                number,
                layer.value,
                layer.own.error,
                layer.own.bound,
                "" if layer.drift is None else layer.drift.error,
                "" if layer.drift is None else layer.drift.bound,
                layer.largest,
                layer.not_finite,
                layer.saturated,
                _verdict(layer.own),
                _nodes(layer.nodes),
                _nodes(layer.engine_nodes),
            ]
            for number, layer in enumerate(layers, 1)
        ],
    )  # fmt: skip


def _nodes(nodes: Sequence[str]) -> Html:
    if len(nodes) < 3:
        return escape(", ".join(nodes))
    return details(f"{len(nodes)} nodes", ", ".join(nodes))


def _verdict(comparison: Comparison) -> Html:
    good = comparison.passed
    return element(
        "span", element("strong", "ok" if good else "FAILED"), kind="good" if good else "bad"
    )


def _ponder(masks: Sequence[npt.NDArray[np.bool_]], size: tuple[int, ...]) -> npt.NDArray[Any]:
    from pagdeploy.verbs.sheet import ponder_map

    return ponder_map([mask.astype(np.int32) for mask in masks], size)


def _is_map(array: npt.NDArray[Any], channels: int | None = 1) -> bool:
    """Whether there is something to see: a first image of more than one pixel."""
    if array.ndim != 4 or not array.size or array.shape[2] * array.shape[3] < 2:
        return False
    return channels is None or array.shape[1] == channels


def _photo(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """The first image of an input as RGB; whatever its range, it is stretched to be visible."""
    if not _is_map(array, channels=None) or array.shape[1] not in (1, 3):
        return None
    image = np.nan_to_num(array[0].astype(np.float64), posinf=0.0, neginf=0.0)  # (C, H, W)
    low, high = float(image.min()), float(image.max())
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    elif low >= 0.0 and high <= 255.0:
        low, high = 0.0, 255.0
    image = (image - low) / (high - low if high > low else 1.0)
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2)


def _picture(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """The first image of an output as RGB."""
    from pagdeploy.verbs.pictures import as_pixels

    if not _is_map(array, channels=None):
        return None
    pixels = as_pixels(array)
    if pixels is None:
        return None
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _error(engine: npt.NDArray[Any], reference: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The largest scale-free error of each pixel of the first image, (H, W); as `compare`."""
    a, b = engine.astype(np.float64), reference[0].astype(np.float64)  # (C, H, W)
    whole = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    scale = float(whole.max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    worst: npt.NDArray[np.float64] = np.nan_to_num(difference, nan=np.inf).max(axis=0) / scale
    return worst


def _size(array: npt.NDArray[Any]) -> Html:
    return paragraph(f"{array.shape[3]} x {array.shape[2]} pixels, {array.shape[1]} channels")


def _range(array: npt.NDArray[Any]) -> tuple[object, object]:
    finite = array[np.isfinite(array)]
    return (float(finite.min()), float(finite.max())) if finite.size else ("", "")
