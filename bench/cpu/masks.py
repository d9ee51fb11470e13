"""Masks with an exact share of active pixels, and what a convolution reads at them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagdeploy.measure.textures import make_selection

Mask = npt.NDArray[np.bool_]


def mask(texture: str, size: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """A mask (H, W) of which `density` is active, spread as `pagdeploy.measure.textures` says."""
    rng = np.random.default_rng(seed)
    return make_selection(texture, (1, *size), (1 - density, density), rng)[0, 0] == 1


def support(active: Mask, dilation: int) -> Mask:
    """The pixels that a 3x3 kernel of that dilation reads at the active ones."""
    height, width = active.shape
    padded = np.pad(active, dilation)
    read = np.zeros_like(active)
    for y in (0, dilation, 2 * dilation):
        for x in (0, dilation, 2 * dilation):
            read |= padded[y : y + height, x : x + width]
    return read
