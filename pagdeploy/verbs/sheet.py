"""The demo's picture: photo, predictions, per-gate maps, and where the computation went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.verbs.pictures import as_picture, class_colours

Arrays = Mapping[str, npt.NDArray[Any]]
Tile = tuple[npt.NDArray[Any], dict[str, Any]]  # an image, and how to show it
_WIDTH, _TITLE, _LEGEND = 14.0, 0.27, 0.5  # inches: of the sheet, above a tile, at the foot


def draw_sheet(
    path: Path,
    images: Arrays,
    outputs: Mapping[str, Arrays],
    gates: Mapping[str, str],
    pools: Mapping[str, str],
    classes: Sequence[str],
    branches: Sequence[str],
) -> None:
    """Draw one band per image, predictions above per-gate maps, and a legend at the foot.

    Args:
        path: PNG file to write.
        images: RGB in [0, 1] by name, (1, 3, H, W), all of one size.
        outputs: Of each image, what the network said and its selections, (1, C, H, W).
        gates: Name of the selection by name of the binary gate, in the network's order.
        pools: Likewise of the gates that choose among more than two branches.
        classes: Names of the classes of the segmentation.
        branches: Of the pools, in the order of their logits.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bands = [_band(name, image, outputs[name], gates, pools) for name, image in images.items()]
    aspect = next(iter(images.values())).shape[2] / next(iter(images.values())).shape[3]
    heights = [_WIDTH / len(row) * aspect + _TITLE for row in bands[0]]
    heights = [*heights * len(bands), _LEGEND]
    figure = plt.figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, wspace=0.01, hspace=0.01)
    *strips, foot = figure.subfigures(len(heights), 1, height_ratios=heights)
    rows = [row for band in bands for row in band]
    for strip, row in zip(strips, rows, strict=True):
        for axis, (title, (tile, style)) in zip(
            strip.subplots(1, len(row)), row.items(), strict=True
        ):
            axis.imshow(tile, interpolation="nearest", **style)
            axis.set_title(title, fontsize=8, pad=2)
            axis.set(xticks=[], yticks=[])
            for edge in axis.spines.values():
                edge.set(color="0.6", linewidth=0.5)
    _draw_legend(foot, classes, branches)
    figure.savefig(path, format="png", dpi=80)
    plt.close(figure)


def _draw_legend(foot: Any, classes: Sequence[str], branches: Sequence[str]) -> None:
    """One line of the classes' colours, one of the branches'."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    colours = class_colours(len(classes)) / 255
    lines = {
        "upper": [Patch(color=c, label=n) for n, c in zip(classes, colours, strict=True)],
        "lower": [Patch(color=colormaps["tab10"](i), label=n) for i, n in enumerate(branches)],
    }
    for place, patches in lines.items():
        foot.legend(
            handles=patches,
            loc=f"{place} center",
            ncols=len(patches),
            fontsize=8,
            frameon=False,
            handlelength=1.2,
            borderaxespad=0.2,
        )


def _band(
    name: str,
    image: npt.NDArray[Any],
    answers: Arrays,
    gates: Mapping[str, str],
    pools: Mapping[str, str],
) -> tuple[dict[str, Tile], dict[str, Tile]]:
    """Two rows of titled tiles: what the network said, and what it decided to compute."""
    masks = [answers[selection][0, 0] for selection in gates.values()]  # (h, w) each
    density = float(np.mean([mask.mean() for mask in masks]))
    said: dict[str, Tile] = {title: (tile, {}) for title, tile in _tiles(name, image, answers)}
    ponder = ponder_map(masks, image.shape[2:])
    style = {"cmap": "magma", "vmin": 0, "vmax": len(gates)}
    said[f"gates computed per pixel, mean {density:.2f}"] = (ponder, style)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    decided: dict[str, Tile] = {
        f"{gate.removesuffix('.gate')}: {mask.mean():.2f}": (mask, grey)
        for gate, mask in zip(gates, masks, strict=True)
    }
    for gate, selection in pools.items():
        colours = {"cmap": "tab10", "vmin": 0, "vmax": 9}  # its ten colours, as in the legend
        decided[f"{gate.split('.')[0]}: dilation"] = (answers[selection][0, 0], colours)
    return said, decided


def ponder_map(
    selections: list[npt.NDArray[np.int32]], size: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """How many gates computed each pixel, (H, W): the paper's ponder map.

    Args:
        selections: One (h, w) per gate, 1 where it computes; maps may be smaller.
        size: (H, W) of the image.
    """
    total = np.zeros(size)
    for selection in selections:
        rows = np.arange(size[0]) * selection.shape[0] // size[0]
        columns = np.arange(size[1]) * selection.shape[1] // size[1]
        total += selection[np.ix_(rows, columns)] == 1
    return total


def _tiles(
    name: str, image: npt.NDArray[Any], answers: Arrays
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    yield name, np.clip(image[0].transpose(1, 2, 0), 0, 1)
    if "segmentation" in answers:
        classes = answers["segmentation"][0].argmax(0)  # (H, W)
        yield "segmentation", class_colours(answers["segmentation"].shape[1])[classes]
    if "boundary" in answers:
        probability = 1 / (1 + np.exp(-answers["boundary"][0, 0]))
        yield "boundary", np.repeat(1 - probability[:, :, None], 3, axis=2)
    if "depth" in answers:
        depth = answers["depth"][0, 0]
        near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
        title = f"depth, {depth.min():.1f} to {depth.max():.1f} m"
        yield title, np.repeat(near[:, :, None], 3, axis=2)
    if "normals" in answers:
        picture = as_picture(answers["normals"])
        if picture is not None:
            yield "normals", np.asarray(picture)
