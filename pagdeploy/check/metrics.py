"""Scores of dense prediction tasks over a data set, added up image by image.

Each score is one number of the whole set, over all pixels whose truth is known: the counts of the
images are added up, and nothing is averaged per image. So long sets need no memory, and the order
of the images does not matter.

    segmentation  mean intersection over union: Everingham et al., The Pascal Visual Object Classes
                  Challenge, IJCV 2010
    boundary      F-measure at the best single threshold (ODS): Martin, Fowlkes and Malik, Learning
                  to Detect Natural Image Boundaries, PAMI 2004; Arbelaez et al., Contour Detection
                  and Hierarchical Image Segmentation, PAMI 2011
    depth         AbsRel and the shares below 1.25, 1.25^2, 1.25^3: Eigen, Puhrsch and Fergus, Depth
                  Map Prediction from a Single Image, NIPS 2014
    normals       mean and median angle, and the shares within 11.25, 22.5 and 30 degrees: Fouhey,
                  Gupta and Hebert, Data-Driven 3D Primitives, ICCV 2013
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

IGNORED = 255
"""The class of pixels that nobody labelled."""

BOUNDARY_TOLERANCE = 0.0075
"""Of the image's diagonal, within which boundary pixels match; that of BSDS500."""

NORMAL_LIMITS = (11.25, 22.5, 30.0)
"""Degrees."""

DEPTH_FACTOR = 1.25
_THRESHOLDS = np.arange(1, 100) / 100  # as in the benchmark of BSDS500
_BINS_PER_DEGREE = 100  # of the angles, for their median


class Score(Protocol):
    """Adds up what one task's score needs."""

    def add(self, predicted: Array, true: Array) -> None:
        """Take note of one batch."""

    def scores(self) -> dict[str, float]:
        """By name; NaN where no pixel has a truth."""


class SegmentationScore:
    """`mIoU` and `pixel accuracy`.

    mIoU is the mean of hits / (hits + misses + false alarms) over the classes that occur in the
    truth or in the prediction.

    Args:
        classes: C; a prediction outside of 0..C-1 cannot be.
        ignored: The class of the truth that does not count.
    """

    def __init__(self, classes: int, ignored: int = IGNORED) -> None:
        self._ignored = ignored
        self._table = np.zeros((classes, classes), np.int64)  # (C, C), true by predicted

    def add(self, predicted: Array, true: Array) -> None:
        """Count pairs.

        Args:
            predicted: Integer classes, of any shape.
            true: Integer classes, of the same shape.

        Raises:
            ValueError: a class is not one of the C.
        """
        known = true != self._ignored
        given, found = true[known].astype(np.int64), predicted[known].astype(np.int64)  # (pixels,)
        classes = len(self._table)
        for array, what in ((given, "truth"), (found, "prediction")):
            if array.size and not (0 <= array.min() and array.max() < classes):
                wrong = int(array.max() if array.max() >= classes else array.min())
                raise ValueError(f"the {what} has a class {wrong}, and there are {classes}")
        pairs = np.bincount(given * classes + found, minlength=classes**2)
        self._table += pairs.reshape(classes, classes)

    def scores(self) -> dict[str, float]:
        """Both, between 0 and 1."""
        hits = self._table.diagonal()  # (C,)
        union = self._table.sum(0) + self._table.sum(1) - hits
        some = union > 0
        return {
            "mIoU": float((hits[some] / union[some]).mean()) if some.any() else math.nan,
            "pixel accuracy": _share(int(hits.sum()), int(self._table.sum())),
        }


class BoundaryScore:
    """`ODS F`: the largest F-measure that one threshold reaches over the whole set.

    At a threshold t, with D the Euclidean distance in pixels:

        precision = share of the pixels with probability >= t that have a true one within D
        recall    = share of the true pixels that have one with probability >= t within D
        F         = 2 precision recall / (precision + recall)

    Thresholds are 0.01, 0.02 ... 0.99 and D is 0.0075 of the diagonal, as in the benchmark of
    BSDS500. Unlike there, predictions are not thinned, several pixels may match the same one
    instead of each another, there is one truth an image, and F is not interpolated between
    thresholds. So it is no figure to compare with published ones, but exact, and the same for
    all engines.

    Args:
        tolerance: D as a share of the diagonal.
    """

    def __init__(self, tolerance: float = BOUNDARY_TOLERANCE) -> None:
        self._tolerance = tolerance
        count = len(_THRESHOLDS)
        # By threshold: found and right, found, true and found.
        self._right, self._found, self._recalled = (np.zeros(count, np.int64) for _ in range(3))
        self._true = 0

    def add(self, predicted: Array, true: Array, known: Mask | None = None) -> None:
        """Count pixels of one image.

        Args:
            predicted: Probabilities, (H, W).
            true: Of a boundary, bool (H, W).
            known: Pixels that count, bool (H, W); default: all. What lies elsewhere can still be
                matched.
        """
        reach = self._tolerance * math.hypot(*true.shape)
        counts = np.ones(true.shape, bool) if known is None else known
        near = largest_within(true, reach)  # (H, W) bool
        self._found += _at_least(predicted[counts])
        self._right += _at_least(predicted[near & counts])
        wanted = true & counts
        self._recalled += _at_least(largest_within(predicted, reach)[wanted])
        self._true += int(np.count_nonzero(wanted))

    def scores(self) -> dict[str, float]:
        """The F-measure, and the threshold that reaches it."""
        if self._true == 0:
            return {"ODS F": math.nan, "threshold": math.nan}
        precision = self._right / np.maximum(self._found, 1)  # (thresholds,)
        recall = self._recalled / self._true
        f_measure = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(np.argmax(f_measure))
        return {"ODS F": float(f_measure[best]), "threshold": float(_THRESHOLDS[best])}


class DepthScore:
    """`AbsRel`, the mean of |d - d*| / d*, and the shares of pixels with max(d/d*, d*/d) < 1.25^k.

    A prediction that is not positive lies below no limit. Pixels whose truth is not positive or
    not finite do not count.
    """

    def __init__(self) -> None:
        self._error, self._pixels = 0.0, 0
        self._below = np.zeros(3, np.int64)

    def add(self, predicted: Array, true: Array) -> None:
        """Compare depths, in any unit.

        Args:
            predicted: Floats of any shape.
            true: Likewise, of the same shape.
        """
        known = np.isfinite(true) & (true > 0)
        d, given = predicted[known].astype(np.float64), true[known].astype(np.float64)
        self._error += float((np.abs(d - given) / given).sum())
        self._pixels += given.size
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(d > 0, np.maximum(d / given, given / d), np.inf)
        self._below += [np.count_nonzero(ratio < DEPTH_FACTOR**k) for k in (1, 2, 3)]

    def scores(self) -> dict[str, float]:
        """The four; AbsRel is the better the smaller."""
        shares = (_share(int(below), self._pixels) for below in self._below)
        names = ("delta < 1.25", "delta < 1.25^2", "delta < 1.25^3")
        return {
            "AbsRel": _share(self._error, self._pixels),
            **dict(zip(names, shares, strict=True)),
        }


class NormalScore:
    """Angles between surface normals, in degrees: `mean angle`, `median angle`, shares `< 11.25`.

    The median is that of a histogram whose bins are 0.01 degrees wide. Neither vector needs to have
    length 1; pixels whose truth is longer than 1.5 or shorter than 0.5 have none and do not count.
    """

    def __init__(self) -> None:
        self._sum = 0.0
        self._histogram = np.zeros(180 * _BINS_PER_DEGREE + 1, np.int64)
        self._within = np.zeros(len(NORMAL_LIMITS), np.int64)

    def add(self, predicted: Array, true: Array) -> None:
        """Compare directions.

        Args:
            predicted: Floats, (3, ...).
            true: Likewise, of the same shape.
        """
        length = np.linalg.norm(true, axis=0)
        known = (length > 0.5) & (length < 1.5)  # false for NaN, too
        a, b = predicted[:, known].astype(np.float64), true[:, known].astype(np.float64)
        norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (a * b).sum(0) / norms  # (pixels,)
        # A prediction without a direction is as wrong as one at a right angle.
        cosine = np.where(np.isfinite(cosine), cosine, 0.0)
        angle = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))  # (pixels,)
        self._sum += float(angle.sum())
        bins = (angle * _BINS_PER_DEGREE).astype(np.int64)
        self._histogram += np.bincount(bins, minlength=len(self._histogram))
        self._within += [np.count_nonzero(angle < limit) for limit in NORMAL_LIMITS]

    def scores(self) -> dict[str, float]:
        """The angles are the better the smaller."""
        pixels = int(self._histogram.sum())
        median = math.nan
        if pixels:
            index = int(np.searchsorted(np.cumsum(self._histogram), pixels / 2))
            median = (index + 0.5) / _BINS_PER_DEGREE
        return {
            "mean angle": _share(self._sum, pixels),
            "median angle": median,
            **{
                f"within {limit:g}": _share(int(count), pixels)
                for limit, count in zip(NORMAL_LIMITS, self._within, strict=True)
            },
        }


def largest_within(image: Array, reach: float) -> Array:
    """The largest value within a Euclidean distance of every pixel.

    Args:
        image: (H, W), of numbers or bool.
        reach: Pixels, 0 or more.
    """
    rows, widened = image, 0
    result, height = image.copy(), image.shape[0]
    for down in range(int(reach), -1, -1):  # the outermost row of a disc is the narrowest
        width = int(math.sqrt(reach * reach - down * down))
        while widened < width:
            rows = _widened(rows)
            widened += 1
        if down == 0:
            np.maximum(result, rows, out=result)
        elif down < height:
            np.maximum(result[down:], rows[:-down], out=result[down:])
            np.maximum(result[:-down], rows[down:], out=result[:-down])
    return result


def resized(image: Array, size: Sequence[int]) -> Array:
    """Bilinear interpolation between pixel centres, as is usual for scores before an argmax.

    Args:
        image: Floats, (C, H, W).
        size: Wanted height and width.
    """
    if image.shape[1:] == tuple(size):
        return image
    for axis, wanted in ((1, size[0]), (2, size[1])):
        given = image.shape[axis]
        at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, given - 1)
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        share = (at - low).astype(np.float32).reshape(shape)
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image


def _widened(rows: Array) -> Array:
    wide = rows.copy()
    np.maximum(wide[:, 1:], rows[:, :-1], out=wide[:, 1:])
    np.maximum(wide[:, :-1], rows[:, 1:], out=wide[:, :-1])
    return wide


def _at_least(values: Array) -> npt.NDArray[np.int64]:
    """How many values reach each threshold."""
    # The number of thresholds that a value reaches; NaN reaches none.
    reached = np.searchsorted(_THRESHOLDS, np.nan_to_num(values, nan=-1.0), side="right")
    counts = np.bincount(reached, minlength=len(_THRESHOLDS) + 1)  # (thresholds + 1,)
    result: npt.NDArray[np.int64] = counts[::-1].cumsum()[::-1][1:]
    return result


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
