"""Selections with a wanted share of each branch, spread as gated networks spread them.

    salt    every pixel for itself
    pag     along rows, runs of about 5 computed and 2 skipped pixels at a density of 5/7, as a
            learnt gate without smoothing makes them
    blob    smooth regions: low-pass noise, cut where the share wants it
    block   squares of 8x8 pixels

How the active pixels are spread decides how much a sparse engine gains, at the same density.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import UsageError

Field = npt.NDArray[np.float64]
_BLOCK = 8


def make_selection(
    texture: str, shape: tuple[int, int, int], shares: Sequence[float], rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """A selection (N, 1, H, W); each branch takes its share, to within one pixel.

    With the same generator state, a larger share of the last branch only adds pixels to it.

    Args:
        texture: A key of `TEXTURES`.
        shape: N, H and W.
        shares: Of the branches, from 0; they sum to 1.
        rng: Decides where.

    Raises:
        UsageError: there is no such texture, or the shares are none.
    """
    if texture not in TEXTURES:
        raise UsageError(
            f"There is no texture {texture!r}.", remedy=f"Choose one of: {', '.join(TEXTURES)}."
        )
    bounds = np.cumsum(shares)
    if not (np.all(np.asarray(shares) >= 0) and abs(bounds[-1] - 1) < 1e-3):
        raise UsageError(
            f"The shares {list(shares)} are not those of a whole.", remedy="They must sum to 1."
        )
    order = np.argsort(TEXTURES[texture](shape, rng), axis=None, kind="stable")  # (N H W,)
    ends = np.rint(bounds / bounds[-1] * order.size).astype(int)
    selection = np.empty(order.size, np.int32)
    selection[order] = np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))
    return selection.reshape(shape[0], 1, *shape[1:])


def _salt(shape: tuple[int, int, int], rng: np.random.Generator) -> Field:
    return rng.standard_normal(shape)


def _pag(shape: tuple[int, int, int], rng: np.random.Generator) -> Field:
    # Neighbours that share half of their noise cross the level of 5/7 every 3.5 pixels.
    noise = rng.standard_normal((*shape[:2], shape[2] + 1))
    return noise[..., 1:] + noise[..., :-1]


def _blob(shape: tuple[int, int, int], rng: np.random.Generator) -> Field:
    height, width = shape[1:]
    radius = min(height, width) / 16  # standard deviation of the smoothing, in pixels
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    low_pass = np.exp(-2 * (np.pi * radius) ** 2 * (down**2 + right**2))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * low_pass
    return np.fft.irfft2(spectrum, s=(height, width))


def _block(shape: tuple[int, int, int], rng: np.random.Generator) -> Field:
    n, height, width = shape
    coarse = rng.standard_normal((n, -(-height // _BLOCK), -(-width // _BLOCK)))
    return coarse.repeat(_BLOCK, 1).repeat(_BLOCK, 2)[:, :height, :width]


TEXTURES: dict[str, Callable[[tuple[int, int, int], np.random.Generator], Field]] = {
    "salt": _salt,
    "pag": _pag,
    "blob": _blob,
    "block": _block,
}
"""The random field of each texture, (N, H, W); the branches divide its values among them."""
