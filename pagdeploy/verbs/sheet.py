"""The demo's picture: photo, predictions, per-gate maps, and where the computation went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.verbs.pictures import as_picture, class_colours

Arrays = Mapping[str, npt.NDArray[Any]]


def draw_sheet(
    path: Path,
    images: Arrays,
    outputs: Mapping[str, Arrays],
    gates: Mapping[str, str],
    densities: Mapping[str, float],
) -> None:
    """Draw one band per image: predictions above, per-gate maps below.

    Args:
        path: PNG file to write.
        images: RGB in [0, 1] by name, (1, 3, H, W).
        outputs: Of each image, what the network said and its selections, (1, C, H, W).
        gates: Name of the selection by name of the binary gate, in the network's order.
        densities: Mean density of each image.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = max(6, len(gates))
    figure = plt.figure(figsize=(2.1 * columns, 3.15 * len(images) + 0.4), layout="constrained")
    bands = figure.subfigures(len(images), 1) if len(images) > 1 else [figure]
    for band, (name, image) in zip(np.ravel(np.asarray(bands, object)), images.items(), strict=True):
        answers = outputs[name]
        ponder = ponder_map([answers[s] for s in gates.values()], image.shape[2:])
        top, bottom = band.subfigures(2, 1, height_ratios=(1.7, 1))
        tiles = _tiles(name, image, answers)
        axes = top.subplots(1, len(tiles) + 1)
        for axis, (title, tile) in zip(axes, tiles.items(), strict=False):
            axis.imshow(tile)
            axis.set_title(title, fontsize=9)
        shown = axes[-1].imshow(ponder, cmap="magma", vmin=0, vmax=len(gates))
        axes[-1].set_title(f"gates computed, density {densities[name]:.2f}", fontsize=9)
        top.colorbar(shown, ax=axes[-1], fraction=0.04)
        below = bottom.subplots(1, len(gates))
        for axis, (gate, selection) in zip(np.atleast_1d(below), gates.items(), strict=True):
            mask = answers[selection][0, 0]  # (H, W)
            axis.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(f"{gate.removesuffix('.gate')}  {mask.mean():.2f}", fontsize=8)
        for axis in [*axes, *np.atleast_1d(below)]:
            axis.set_axis_off()
    figure.savefig(path, format="png", dpi=72)
    plt.close(figure)


def ponder_map(
    selections: list[npt.NDArray[np.int32]], size: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """How many gates computed each pixel, (H, W): the paper's ponder map.

    Args:
        selections: One (1, 1, h, w) per gate, 1 where it computes; maps may be smaller.
        size: (H, W) of the image.
    """
    total = np.zeros(size)
    for selection in selections:
        rows = np.arange(size[0]) * selection.shape[2] // size[0]
        columns = np.arange(size[1]) * selection.shape[3] // size[1]
        total += selection[0, 0][np.ix_(rows, columns)] == 1
    return total


def _tiles(name: str, image: npt.NDArray[Any], answers: Arrays) -> dict[str, npt.NDArray[Any]]:
    tiles: dict[str, npt.NDArray[Any]] = {name: np.clip(image[0].transpose(1, 2, 0), 0, 1)}
    if "segmentation" in answers:
        classes = answers["segmentation"][0].argmax(0)  # (H, W)
        tiles["segmentation"] = class_colours(answers["segmentation"].shape[1])[classes]
    if "boundary" in answers:
        probability = 1 / (1 + np.exp(-answers["boundary"][0, 0]))
        tiles["boundary"] = np.repeat(1 - probability[:, :, None], 3, axis=2)
    if "depth" in answers:
        depth = answers["depth"][0, 0]
        near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
        tiles[f"depth {depth.min():.1f} to {depth.max():.1f} m"] = np.repeat(
            near[:, :, None], 3, axis=2
        )
    if "normals" in answers:
        picture = as_picture(answers["normals"])
        if picture is not None:
            tiles["normals"] = np.asarray(picture)
    return tiles
