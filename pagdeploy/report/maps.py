"""Maps of what a network did at each pixel, as pictures with their legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.report.html import Html, element, image, legend, paragraph, tile
from pagdeploy.report.png import indexed_png, rgb_png

RGB = tuple[int, int, int]
# Okabe and Ito's colours, which colour-blind readers can tell apart; a skipped pixel is pale.
_SKIPPED: RGB = (222, 222, 218)
_BRANCHES: tuple[RGB, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
    (240, 228, 66), (0, 0, 0),
)  # fmt: skip
_AGREES, _EXPLAINED, _FOLLOWS, _UNEXPLAINED = (
    (222, 222, 218),
    (230, 159, 0),
    (0, 114, 178),
    (200, 0, 0),
)
_BEYOND: RGB = (200, 0, 0)
# From dark to light through one hue after the other; lightness rises all the way.
_RAMP = np.array(
    [(15, 20, 60), (60, 40, 115), (135, 45, 110), (205, 75, 75), (245, 145, 50), (250, 230, 120)],
    np.float64,
)
_WIDEST_PHOTO, _WIDEST_MAP, _WIDEST_FLIPS = 360, 320, 160  # pixels
_STEPS = 64
_LISTED = 16  # branches that a legend lists though no pixel takes them


def branch_tile(
    title: str, selection: npt.NDArray[Any], branches: int, computes: Sequence[int]
) -> Html:
    """Which branch each pixel takes.

    Args:
        title: Of the gate.
        selection: (H, W), of 0..branches - 1; what lies outside is shown as beyond all branches.
        branches: How many there are.
        computes: Those for which something is computed.
    """
    colours = branch_colours(branches, computes)
    inside = (selection >= 0) & (selection < branches)
    shown = min(branches, 255)  # as many colours as a picture by number can have, less one
    indices = np.where(inside, np.minimum(selection, shown - 1), shown)
    palette = np.array([*colours[:shown], _BEYOND], np.uint8)
    shares = [(selection == k).mean() if selection.size else 0.0 for k in range(branches)]
    entries: list[tuple[RGB, object]] = [
        (colours[k], f"{k}{'' if k in computes else ' (skips)'}: {share:.1%}")
        for k, share in enumerate(shares)
        if share or branches <= _LISTED
    ]
    if not inside.all():
        entries.append((_BEYOND, f"no branch: {(~inside).mean():.1%}"))
    return tile(title, _map(_shrink(indices, _WIDEST_MAP), palette, title), legend(entries))


def branch_colours(branches: int, computes: Sequence[int]) -> list[RGB]:
    """A colour for each branch; those that skip are pale."""
    colours, used = [], 0
    for branch in range(branches):
        if branch in computes:
            colours.append(_BRANCHES[used % len(_BRANCHES)])
            used += 1
        else:
            colours.append(_SKIPPED)
    return colours


def count_tile(title: str, counts: npt.NDArray[Any], most: int, unit: str) -> Html:
    """How often something happened at each pixel.

    Args:
        title: Of the map.
        counts: (H, W), of 0..most.
        most: The largest count that there could be.
        unit: What is counted.
    """
    steps = max(1, min(most, 255))
    palette = ramp(steps + 1)
    indices = counts.astype(np.int64) * steps // max(1, most)
    mean = float(counts.mean()) if counts.size else 0.0
    picture = _map(_shrink(indices, _WIDEST_MAP), palette, title)
    said = paragraph(f"{mean:.2f} of {most} {unit} on average")
    return tile(title, picture, element("div", _ramp_bar("0", str(most)), said))


def flip_tile(
    title: str,
    forced: npt.NDArray[np.bool_],
    unexplained: npt.NDArray[np.bool_],
    free: npt.NDArray[np.bool_],
) -> Html:
    """Where reference and engine decide differently.

    Args:
        title: Of the gate.
        forced: Where they do behind gates that are forced to the reference's, (H, W).
        unexplained: Those of them that no rounding explains.
        free: Where they do as deployed, which other gates' flips may cause.
    """
    kinds = np.zeros(forced.shape, np.uint8)
    kinds[free] = 1
    kinds[forced] = 2
    kinds[unexplained] = 3
    colours: tuple[RGB, ...] = (_AGREES, _FOLLOWS, _EXPLAINED, _UNEXPLAINED)
    words = ("agrees", "follows an earlier flip", "near a tie", "unexplained")
    counts = np.bincount(kinds.ravel(), minlength=4)
    entries = [
        (colour, f"{word}: {number:,}")
        for colour, word, number in zip(colours, words, counts, strict=True)
        if number or word == "unexplained"
    ]
    picture = _map(_pool(kinds, _WIDEST_FLIPS), np.array(colours, np.uint8), title)
    return tile(title, picture, legend(entries))


def error_tile(title: str, error: npt.NDArray[Any], bound: float) -> Html:
    """An error at each pixel, from a ten-thousandth of its bound to the bound.

    Args:
        title: Of the output.
        error: Scale-free, (H, W); NaN and infinities are beyond every bound.
        bound: What it may be.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (np.log10(error / bound) + 4) / 4  # 0..1 from 1e-4 of the bound to the bound
    share = np.clip(np.nan_to_num(share, nan=1.0, posinf=1.0, neginf=0.0), 0, 1)
    indices = (share * (_STEPS - 1)).astype(np.uint8)
    beyond = ~(error <= bound)
    indices[beyond] = _STEPS
    palette = np.concatenate([ramp(_STEPS), np.array([_BEYOND], np.uint8)])
    entries = [(_BEYOND, f"beyond the bound: {int(beyond.sum()):,} pixels")] if beyond.any() else []
    picture = _map(_pool(indices, _WIDEST_MAP), palette, title)
    bar = _ramp_bar(f"{bound / 1e4:.1g} or less", f"{bound:.1g}, the bound")
    return tile(title, picture, element("div", bar, legend(entries) if entries else ""))


def photo_tile(title: str, pixels: npt.NDArray[np.uint8], below: object = "") -> Html:
    """A picture.

    Args:
        title: Of it.
        pixels: RGB, (H, W, 3).
        below: What is to be said of it.
    """
    step = -(-pixels.shape[1] // _WIDEST_PHOTO)
    height, width = (max(1, size // step) for size in pixels.shape[:2])
    blocks = pixels[: height * step, : width * step] if step > 1 else pixels
    shape = (height, min(step, pixels.shape[0]), width, step, 3)
    small = blocks.reshape(shape).mean(axis=(1, 3)) if step > 1 else blocks
    return tile(title, image(rgb_png(small.astype(np.uint8)), title), below)


def ramp(steps: int) -> npt.NDArray[np.uint8]:
    """Colours from little to much, uint8 (steps, 3)."""
    at = np.linspace(0, len(_RAMP) - 1, steps)
    known = np.arange(len(_RAMP))
    parts = [np.interp(at, known, _RAMP[:, channel]) for channel in range(3)]
    return np.stack(parts, axis=1).astype(np.uint8)


def _ramp_bar(low: str, high: str) -> Html:
    bar = image(
        indexed_png(np.arange(_STEPS)[None], ramp(_STEPS)), f"from {low} to {high}", kind="bar"
    )
    return element("div", element("span", low), bar, element("span", high), kind="ramp")


def _map(indices: npt.NDArray[Any], palette: npt.NDArray[np.uint8], alt: str) -> Html:
    return image(indexed_png(indices, palette), alt, kind="map")


def _shrink(indices: npt.NDArray[Any], widest: int) -> npt.NDArray[Any]:
    """Every so many-th pixel, so that a map of decisions stays one."""
    step = -(-max(indices.shape) // (2 * widest))
    return indices[::step, ::step]


def _pool(values: npt.NDArray[Any], widest: int) -> npt.NDArray[Any]:
    """The largest of each block, so that a single pixel is not lost."""
    step = -(-values.shape[1] // widest)
    if step <= 1:
        return values
    height, width = (-(-size // step) for size in values.shape)
    padded = np.zeros((height * step, width * step), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    pooled: npt.NDArray[Any] = padded.reshape(height, step, width, step).max(axis=(1, 3))
    return pooled
