"""Masks with an exact share of active pixels, and what a convolution reads at them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagdeploy.measure.textures import make_selection

Mask = npt.NDArray[np.bool_]


def mask(texture: str, size: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """A mask (H, W) of which `density` is active, spread as `pagdeploy.measure.textures` says."""
    return selection_of(texture, size, density, seed=seed)[0, 0] == 1


def selection_of(
    texture: str, size: tuple[int, int], density: float, branches: int = 2, seed: int = 0
) -> npt.NDArray[np.int32]:
    """A selection (1, 1, H, W) of which a share is active, spread as `make_selection` says.

    Args:
        texture: A key of `pagdeploy.measure.textures.TEXTURES`.
        size: H and W.
        density: Of two branches, the share of 1; of more, what all but the last one share evenly.
        branches: K.
        seed: Decides where.
    """
    rest = 1 - density
    shares = [rest, density]
    if branches > 2:
        shares = [density / (branches - 1)] * (branches - 1) + [rest]
    return make_selection(texture, (1, *size), shares, np.random.default_rng(seed))


def support(active: Mask, dilation: int) -> Mask:
    """The pixels that a 3x3 kernel of that dilation reads at the active ones."""
    height, width = active.shape
    padded = np.pad(active, dilation)
    read = np.zeros_like(active)
    for y in (0, dilation, 2 * dilation):
        for x in (0, dilation, 2 * dilation):
            read |= padded[y : y + height, x : x + width]
    return read
