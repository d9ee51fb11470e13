"""One picture of what the gated networks predict and where each of their gates computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pagdeploy.examples.rooms.dataset import HEIGHT, WIDTH
from pagdeploy.examples.rooms.layout import CLASSES
from pagdeploy.examples.rooms.scenes import Scene, render
from pagdeploy.exporters.models.pag_resnet import PAGResNet

Runner: TypeAlias = Callable[[PAGResNet, Tensor], tuple[tuple[Tensor, ...], dict[str, Tensor]]]
"""Outputs and decisions of a network on a picture; see `evaluate.run`."""

COLOURS = 256
"""Palette size of the written PNG; keeps the file small."""


def ponder_map(decisions: Mapping[str, Tensor], names: Sequence[str]) -> NDArray[np.float32]:
    """How many gates compute each pixel of the first picture, (HEIGHT, WIDTH) float32."""
    total = torch.zeros(HEIGHT, WIDTH)
    for name in names:
        small = decisions[name][:1].float()  # (1, 1, h, w)
        total += torch.nn.functional.interpolate(small, (HEIGHT, WIDTH))[0, 0]
    return total.numpy()


def draw_maps(
    networks: Mapping[str, PAGResNet], run: Runner, seeds: Sequence[int], path: Path
) -> None:
    """Write a PNG: for each scene a row of labels, then a row for each network.

    Args:
        networks: gated networks in evaluation mode, by the name to show.
        run: gives outputs and decisions.
        seeds: scenes.
        path: the file to write.
    """
    names = list(next(iter(networks.values())).gates())
    columns = 5 + len(names) + 1
    rows = len(seeds) * (1 + len(networks))
    figure = Figure(figsize=(1.35 * columns, 1.12 * rows), dpi=80, layout="constrained")
    figure.set_facecolor("lightgrey")  # so that the edge of a mask shows
    canvas = FigureCanvasAgg(figure)
    axes = [
        [
            figure.add_subplot(rows, columns, 1 + columns * down + across)
            for across in range(columns)
        ]
        for down in range(rows)
    ]
    for line in axes:
        for cell in line:
            cell.set_axis_off()
    row = 0
    for seed in seeds:
        scene = render(seed, HEIGHT, WIDTH)
        _draw_labels(axes[row], scene, seed)
        image = torch.from_numpy(scene.image)[None]  # (1, 3, H, W)
        for title, model in networks.items():
            row += 1
            outputs, decisions = run(model, image)
            _draw_network(axes[row], title, outputs, decisions, names, scene)
        row += 1
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    small = Image.fromarray(np.ascontiguousarray(pixels)).quantize(COLOURS)
    small.save(path, optimize=True)


def _show(cell: Axes, title: str, picture: NDArray[np.generic], **options: Any) -> None:
    cell.imshow(picture, interpolation="nearest", **options)
    cell.set_title(title, fontsize=7, pad=2)


def _draw_labels(cells: Sequence[Axes], scene: Scene, seed: int) -> None:
    _show(cells[0], f"scene {seed}", scene.image.transpose(1, 2, 0))
    _show_four(
        cells[1:5],
        ("classes", "boundary", "depth", "normals"),
        (scene.classes, scene.boundary.astype(np.float32), scene.depth, scene.normals),
        float(scene.depth.max()),
    )


def _draw_network(
    cells: Sequence[Axes],
    title: str,
    outputs: tuple[Tensor, ...],
    decisions: Mapping[str, Tensor],
    names: Sequence[str],
    scene: Scene,
) -> None:
    segmentation, boundary, depth, normals = (output[0] for output in outputs)
    cells[0].text(0.5, 0.5, title, ha="center", va="center", fontsize=10)
    _show_four(
        cells[1:5],
        ("", "", "", ""),
        (
            segmentation.argmax(0).numpy(),
            boundary[0].sigmoid().numpy(),
            depth[0].numpy(),
            normals.numpy(),
        ),
        float(scene.depth.max()),
    )
    for cell, name in zip(cells[5:], names, strict=False):
        mask = decisions[name][0, 0].numpy()
        _show(cell, f"{name} {mask.mean():.2f}", mask, cmap="gray", vmin=0, vmax=1)
    ponder = ponder_map(decisions, names)
    _show(cells[5 + len(names)], "ponder map", ponder, cmap="magma", vmin=0, vmax=len(names))


def _show_four(
    cells: Sequence[Axes],
    titles: Sequence[str],
    pictures: tuple[NDArray[np.generic], ...],
    farthest: float,
) -> None:
    classes, boundary, depth, normals = pictures
    _show(cells[0], titles[0], classes, cmap="tab10", vmin=0, vmax=max(9, len(CLASSES)))
    _show(cells[1], titles[1], boundary, cmap="gray_r", vmin=0, vmax=1)
    _show(cells[2], titles[2], depth, cmap="viridis_r", vmin=0, vmax=farthest)
    coloured = np.clip(normals.astype(np.float32) * 0.5 + 0.5, 0, 1)  # (3, H, W)
    _show(cells[3], titles[3], coloured.transpose(1, 2, 0))
