"""Selections with a wanted share of active pixels, spread as gated networks spread them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

TEXTURES = ("salt", "pag", "blob", "block")


def _field(texture: str, shape: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
    n, h, w = shape
    noise = torch.randn((n, 1, h, w), generator=generator)
    if texture == "salt":
        return noise
    if texture == "pag":  # short runs along rows, as a learnt gate without smoothing makes them
        return F.avg_pool2d(F.pad(noise, (2, 2, 0, 0), mode="circular"), (1, 5), 1)
    if texture == "block":
        coarse = noise[:, :, : -(-h // 8), : -(-w // 8)]
        grown = F.interpolate(coarse, scale_factor=8.0, mode="nearest")[:, :, :h, :w]
        return grown + 1e-3 * noise  # so that any share can be reached
    size = 2 * max(1, min(h, w) // 12) + 1
    for _ in range(2):
        padded = F.pad(noise, (size // 2,) * 4, mode="replicate")
        noise = F.avg_pool2d(padded, size, 1)
    return noise


def selection(
    texture: str, shape: tuple[int, int, int], density: float, seed: int, device: str
) -> torch.Tensor:
    """An int32 selection (N, 1, H, W) of zeros and ones with that share of ones.

    Args:
        texture: One of `TEXTURES`.
        shape: N, H and W.
        density: The share of ones.
        seed: Of the random field.
        device: Where the result lies.
    """
    field = _field(texture, shape, torch.Generator().manual_seed(seed)).flatten()
    count = round(density * field.numel())
    chosen = torch.zeros(field.numel(), dtype=torch.int32)
    chosen[field.topk(count).indices] = 1
    return chosen.view(shape[0], 1, *shape[1:]).to(device)
