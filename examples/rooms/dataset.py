"""Rendered rooms as training data: made once, kept as one npz file, augmented in batches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pagdeploy.examples.rooms.scenes import Scene, render

HEIGHT, WIDTH = 96, 128
"""Size of the pictures that the network is trained and measured on."""

MARGIN = 16
"""Training scenes are rendered this much larger in both directions, for random crops."""

TRAINING_SEEDS = range(10_000)
HELD_OUT_SEEDS = range(1_000_000, 1_000_300)
"""No seed below a million is used for measuring, none above for training."""


class Batch(NamedTuple):
    """Pictures and labels of N scenes."""

    image: Tensor  # (N, 3, H, W) float32, RGB in [0, 1]
    classes: Tensor  # (N, H, W) int64
    boundary: Tensor  # (N, 1, H, W) float32, 0 or 1
    depth: Tensor  # (N, 1, H, W) float32, metres
    normals: Tensor  # (N, 3, H, W) float32, unit


class RoomSet:
    """Scenes in memory, packed to ten bytes a pixel.

    Args:
        arrays: image (S, 3, H, W) uint8, classes (S, H, W) uint8, boundary (S, H, W) bool, depth
            (S, H, W) float16 in metres, normals (S, 3, H, W) int8 in units of 1/127.
    """

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def batch(self, indices: NDArray[np.int64], top: int = 0, left: int = 0) -> Batch:
        """The scenes at `indices` (N,), cut to HEIGHT x WIDTH pixels at `top`, `left`."""

        def cut(name: str) -> Tensor:
            window = np.s_[..., top : top + HEIGHT, left : left + WIDTH]
            return torch.from_numpy(np.ascontiguousarray(self.arrays[name][indices][window]))

        normals = cut("normals").float()  # (N, 3, H, W)
        return Batch(
            image=cut("image").float() / 255,
            classes=cut("classes").long(),
            boundary=cut("boundary").float()[:, None],
            depth=cut("depth").float()[:, None],
            normals=torch.nn.functional.normalize(normals, dim=1),
        )

    def training_batches(self, size: int, count: int, seed: int) -> Iterator[Batch]:
        """Yield `count` shuffled and augmented batches of `size` scenes, epoch after epoch."""
        random = np.random.default_rng(seed)
        order = np.zeros(0, np.int64)
        for _ in range(count):
            while len(order) < size:
                order = np.concatenate([order, random.permutation(len(self))])
            indices, order = order[:size], order[size:]
            height, width = self.arrays["classes"].shape[1:]
            top = int(random.integers(height - HEIGHT + 1))
            left = int(random.integers(width - WIDTH + 1))
            yield augment(self.batch(indices, top, left), random)


def augment(batch: Batch, random: np.random.Generator) -> Batch:
    """Mirror about half of the pictures and change the colours of all.

    Size changes need no augmentation: the renderer draws its own field of view for each scene.
    """
    count = len(batch.image)
    mirrored = torch.from_numpy(random.random(count) < 0.5)[:, None, None, None]  # (N, 1, 1, 1)

    def mirror(y: Tensor) -> Tensor:
        return torch.where(mirrored, y.flip(-1), y)

    flip_x = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    normals = torch.where(mirrored, batch.normals.flip(-1) * flip_x, batch.normals)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        values = random.uniform(low, high, (count, channels, 1, 1))
        return torch.from_numpy(values.astype(np.float32))  # (N, channels, 1, 1)

    image = mirror(batch.image)  # (N, 3, H, W)
    image = image.clamp(1e-3, 1) ** draw(0.65, 1.5)  # gamma
    grey = image.mean(1, keepdim=True)  # (N, 1, H, W)
    image = grey + draw(0.0, 1.7) * (image - grey)  # saturation
    middle = image.mean((1, 2, 3), keepdim=True)
    image = middle + draw(0.6, 1.6) * (image - middle)  # contrast
    image = image * draw(0.85, 1.15, 3) + draw(-0.12, 0.12)  # colour cast, brightness
    noise = torch.from_numpy(random.standard_normal(image.shape, dtype=np.float32))
    image = image + draw(0.0, 0.03) * noise
    return Batch(
        image=image.clamp(0, 1),
        classes=mirror(batch.classes[:, None])[:, 0],
        boundary=mirror(batch.boundary),
        depth=mirror(batch.depth),
        normals=normals,
    )


def held_out(seeds: range = HELD_OUT_SEEDS) -> RoomSet:
    """Render scenes that training never sees, at the size that the network is measured on."""
    return RoomSet(_stack([_packed(seed, HEIGHT, WIDTH) for seed in seeds]))


def training_set(folder: Path, seeds: range = TRAINING_SEEDS, workers: int = 2) -> RoomSet:
    """Render the training scenes, or load them if `folder` has them from an earlier run."""
    path = folder / f"rooms-{seeds.start}-{seeds.stop}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        one = partial(_packed, height=HEIGHT + MARGIN, width=WIDTH + MARGIN)
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            scenes = list(pool.imap(one, seeds, chunksize=50))
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, **_stack(scenes))  # type: ignore[arg-type]
        unfinished.rename(path)
    with np.load(path) as file:
        return RoomSet({name: file[name] for name in file.files})


def _packed(seed: int, height: int, width: int) -> dict[str, NDArray[np.generic]]:
    scene: Scene = render(seed, height, width)
    return {
        "image": np.round(scene.image * 255).astype(np.uint8),
        "classes": scene.classes,
        "boundary": scene.boundary,
        "depth": scene.depth.astype(np.float16),
        "normals": np.round(scene.normals * 127).astype(np.int8),
    }


def _stack(scenes: list[dict[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    return {name: np.stack([scene[name] for scene in scenes]) for name in scenes[0]}
