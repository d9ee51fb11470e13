"""Turning outputs and selections into pictures, without knowing what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image


def as_picture(array: npt.NDArray[Any]) -> Image | None:
    """The first image of a batch as a picture, or None if the array is no map.

    Args:
        array: (N, C, H, W), any numeric dtype; see `as_pixels`.
    """
    from PIL import Image as Pillow

    pixels = as_pixels(array)
    return None if pixels is None else Pillow.fromarray(pixels)


def as_pixels(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """The first image of a batch as uint8, (H, W) or (H, W, 3); None if the array is no map.

    One channel becomes grey levels between its extremes, selections included; three channels in
    [-1, 1], such as normals, become colours; more channels become the index of the largest, in
    colours of their own.

    Args:
        array: (N, C, H, W), any numeric dtype.
    """
    if array.ndim != 4 or array.shape[0] == 0 or min(array.shape[2:]) < 1:
        return None
    image = np.nan_to_num(array[0].astype(np.float64))  # (C, H, W)
    channels = image.shape[0]
    if channels == 1:
        return _grey(image[0])
    if channels == 3 and np.abs(image).max(initial=0.0) <= 1.0 + 1e-3:
        colours = np.clip(image.transpose(1, 2, 0) * 127.5 + 127.5, 0, 255)  # (H, W, 3)
        return np.asarray(colours.astype(np.uint8))
    found: npt.NDArray[np.uint8] = class_colours(channels)[image.argmax(0)]  # (H, W, 3)
    return found


def class_colours(count: int) -> npt.NDArray[np.uint8]:
    """Distinct colours for class indices, uint8 (count, 3)."""
    hues = (np.arange(count) * 0.61803398875) % 1.0  # the golden ratio keeps neighbours apart
    ramps = np.abs((hues[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1  # (count, 3)
    value = np.where(np.arange(count) % 2, 0.95, 0.7)[:, None]
    colours: npt.NDArray[np.float64] = (0.35 + 0.65 * np.clip(ramps, 0, 1)) * value * 255
    return colours.astype(np.uint8)


def _grey(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    span = high - low if high > low else 1.0
    return ((values - low) / span * 255).astype(np.uint8)
