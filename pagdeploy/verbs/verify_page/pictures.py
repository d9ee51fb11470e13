"""What ran, as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.report.html import paragraph, table, tiles

if TYPE_CHECKING:
    from pagdeploy.report.html import Html
    from pagdeploy.verbs.proof import Evidence, Verification

MOST_TILES = 64  # of one kind; a page of thousands of pictures opens nowhere


def what_ran(result: Verification, evidence: Evidence) -> Iterator[object]:
    """Inputs and outputs as pictures, and how many gates compute at each pixel."""
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
    yield tiles(found[:MOST_TILES]) if found else ""
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


def is_map(array: npt.NDArray[Any], channels: int | None = 1) -> bool:
    """Whether there is something to see: a first image of more than one pixel."""
    if array.ndim != 4 or not array.size or array.shape[2] * array.shape[3] < 2:
        return False
    return channels is None or array.shape[1] == channels


def _ponder(masks: Sequence[npt.NDArray[np.bool_]], size: tuple[int, ...]) -> npt.NDArray[Any]:
    from pagdeploy.verbs.sheet import ponder_map

    return ponder_map([mask.astype(np.int32) for mask in masks], size)


def _photo(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """The first image of an input as RGB; whatever its range, it is stretched to be visible."""
    if not is_map(array, channels=None) or array.shape[1] not in (1, 3):
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

    if not is_map(array, channels=None):
        return None
    pixels = as_pixels(array)
    if pixels is None:
        return None
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _size(array: npt.NDArray[Any]) -> Html:
    return paragraph(f"{array.shape[3]} x {array.shape[2]} pixels, {array.shape[1]} channels")


def _range(array: npt.NDArray[Any]) -> tuple[object, object]:
    finite = array[np.isfinite(array)]
    return (float(finite.min()), float(finite.max())) if finite.size else ("", "")
