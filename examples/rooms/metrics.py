"""Scores of four dense prediction tasks, and numbers that say what a gate's mask follows."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pagdeploy.check.metrics import (
    NORMAL_LIMITS,
    DepthScore,
    NormalScore,
    SegmentationScore,
)

BOUNDARY_TOLERANCE = 2
"""Pixels, in both directions, within which a predicted and a true boundary pixel match."""


def segmentation_scores(predicted: Tensor, true: Tensor, classes: int) -> dict[str, float]:
    """Mean intersection over union and pixel accuracy over all pixels of a set.

    Args:
        predicted: class ids, (N, H, W) int64.
        true: class ids, (N, H, W) int64.
        classes: number of classes C.
    """
    score = SegmentationScore(classes)
    score.add(predicted.numpy(), true.numpy())
    found = score.scores()
    return {"mIoU": found["mIoU"], "pixel_accuracy": found["pixel accuracy"]}


def boundary_scores(probability: Tensor, true: Tensor) -> dict[str, float]:
    """The best F-measure over one threshold for the whole set, as ODS of BSDS500 is defined.

    Simpler than the official benchmark: no thinning, and every pixel within the tolerance counts
    as matched, several to one. `pagdeploy.check.metrics.BoundaryScore` is the same but for the
    tolerance, a disc that grows with the picture, and for its thresholds.

    Args:
        probability: (N, 1, H, W) in [0, 1].
        true: (N, 1, H, W), 0 or 1.
    """
    best = {"best_F": 0.0, "threshold": 0.0}
    near_true = _grow(true)  # (N, 1, H, W)
    for threshold in np.linspace(0.05, 0.95, 37).tolist():
        found = (probability > threshold).float()  # (N, 1, H, W)
        precision = float((found * near_true).sum() / found.sum().clamp(min=1))
        recall = float((true * _grow(found)).sum() / true.sum())
        f_measure = 2 * precision * recall / max(precision + recall, 1e-9)
        if f_measure > best["best_F"]:
            best = {"best_F": f_measure, "threshold": threshold}
    return best


def depth_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Mean |d - d*| / d* and the share of pixels with max(d/d*, d*/d) < 1.25; metres."""
    score = DepthScore()
    score.add(predicted.numpy(), true.numpy())
    found = score.scores()
    return {"abs_rel": found["AbsRel"], "delta_1.25": found["delta < 1.25"]}


def normal_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Mean angle in degrees and the shares of pixels within `NORMAL_LIMITS`; (N, 3, H, W)."""
    score = NormalScore()
    score.add(predicted.numpy().swapaxes(0, 1), true.numpy().swapaxes(0, 1))  # (3, N, H, W)
    found = score.scores()
    within = {f"within_{limit:g}": found[f"within {limit:g}"] for limit in NORMAL_LIMITS}
    return {"mean_angle": found["mean angle"], **within}


def mask_scores(mask: Tensor, classes: Tensor, boundary: Tensor) -> dict[str, float]:
    """What a gate's decisions depend on, over N pictures.

    Args:
        mask: computed pixels, (N, 1, h, w) bool, at the gate's own size.
        classes: (N, H, W) int64, a multiple of h, w.
        boundary: (N, 1, H, W), 0 or 1.

    Returns:
        density: share of computed pixels.
        density_least, density_most: the same for the extreme pictures.
        image_share: the part of the mask's variance that a fixed pattern over the picture's
            plane, the same for all pictures, cannot explain; 0 for such a pattern, 1 - 1/N for
            noise.
        class_bits: mutual information of the decision and the majority class below it.
        class_bits_shuffled: the same against the labels of another picture, as the baseline.
        on_boundary, off_boundary: density where the pixel's cell has a boundary pixel, or none.
    """
    on = mask.float()  # (N, 1, h, w)
    cell = classes.shape[1] // mask.shape[2]
    one_hot = F.one_hot(classes).permute(0, 3, 1, 2).float()  # (N, C, H, W)
    below = F.avg_pool2d(one_hot, cell).argmax(1)  # (N, h, w)
    edge = F.max_pool2d(boundary, cell) > 0  # (N, 1, h, w)
    density = float(on.mean())
    variance = density * (1 - density)
    fixed = float(on.mean(0).var(correction=0))
    pictures = on.mean((1, 2, 3))  # (N,)
    return {
        "density": density,
        "density_least": float(pictures.min()),
        "density_most": float(pictures.max()),
        "image_share": 1 - fixed / variance if variance > 0 else 0.0,
        "class_bits": mutual_information(mask[:, 0].numpy(), below.numpy()),
        "class_bits_shuffled": mutual_information(mask[:, 0].numpy(), below.roll(1, 0).numpy()),
        "on_boundary": float(on[edge].mean()),
        "off_boundary": float(on[~edge].mean()),
    }


def mutual_information(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Bits that one of two arrays of small non-negative integers tells about the other."""
    left, right = a.astype(np.int64).ravel(), b.astype(np.int64).ravel()
    width = int(right.max()) + 1
    joint = np.bincount(left * width + right, minlength=(int(left.max()) + 1) * width)
    p = joint.reshape(-1, width) / left.size
    expected = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    some = p > 0
    return max(0.0, float((p[some] * np.log(p[some] / expected[some])).sum()) / math.log(2))


def _grow(mask: Tensor) -> Tensor:
    size = 2 * BOUNDARY_TOLERANCE + 1
    return F.max_pool2d(mask, size, 1, BOUNDARY_TOLERANCE)  # (N, 1, H, W)
