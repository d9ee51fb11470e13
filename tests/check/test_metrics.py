"""Streamed scores are those that a few lines of brute force give over all pixels at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pagdeploy.check.metrics import (
    BoundaryScore,
    DepthScore,
    NormalScore,
    SegmentationScore,
    largest_within,
    resized,
)

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def pieces(count: int, seed: int):
    """Where to cut `count` images into batches."""
    cuts = np.random.default_rng(seed).integers(0, count + 1, 2)
    return [slice(*pair) for pair in zip([0, *sorted(cuts)], [*sorted(cuts), count], strict=True)]


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(2, 5), SIZES)
def test_mean_iou(seed, classes, size):
    rng = np.random.default_rng(seed)
    true, found = rng.integers(0, classes, (2, 4, *size))
    true[rng.random(true.shape) < 0.2] = 255
    score = SegmentationScore(classes)
    for piece in pieces(4, seed):
        score.add(found[piece], true[piece])
    known, ious = true != 255, []
    for c in range(classes):
        union = known & ((true == c) | (found == c))
        if union.any():
            ious.append((known & (true == c) & (found == c)).sum() / union.sum())
    scores = score.scores()
    if known.any():
        assert scores["mIoU"] == pytest.approx(np.mean(ious))
        assert scores["pixel accuracy"] == pytest.approx((true == found)[known].mean())
    else:
        assert math.isnan(scores["mIoU"])


def test_a_class_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="the truth has a class 7, and there are 3"):
        SegmentationScore(3).add(np.zeros((2, 2), int), np.array([[0, 7], [255, 1]]))
    with pytest.raises(ValueError, match="the prediction has a class -1"):
        SegmentationScore(3).add(np.full((2, 2), -1), np.zeros((2, 2), int))


def disc(size, y, x, reach):
    rows, columns = np.indices(size)
    return (rows - y) ** 2 + (columns - x) ** 2 <= reach * reach


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.float64, SIZES, elements=st.floats(-9, 9)), st.floats(0, 12))
def test_the_largest_within_a_distance(image, reach):
    wanted = [image[disc(image.shape, y, x, reach)].max() for y, x in np.ndindex(image.shape)]
    np.testing.assert_array_equal(largest_within(image, reach).ravel(), wanted)


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES, st.floats(0, 0.4), st.booleans())
def test_ods(seed, size, tolerance, masked):
    rng = np.random.default_rng(seed)
    found, true = rng.random((3, *size)).round(2), rng.random((3, *size)) < 0.3
    known = rng.random((3, *size)) < (0.7 if masked else 2)
    score = BoundaryScore(tolerance)
    for images in zip(found, true, known, strict=True):
        score.add(*images)
    reach, best = tolerance * math.hypot(*size), 0.0
    near = {at: disc(size, *at, reach) for at in np.ndindex(*size)}
    for threshold in np.arange(1, 100) / 100:
        right = positive = recalled = real = 0
        for p, t, k in zip(found >= threshold, true, known, strict=True):
            for at in np.ndindex(*size):
                if k[at]:
                    positive += p[at]
                    right += p[at] and t[near[at]].any()
                    real += t[at]
                    recalled += t[at] and p[near[at]].any()
        if positive and real and right and recalled:
            precision, recall = right / positive, recalled / real
            best = max(best, 2 * precision * recall / (precision + recall))
    if (true & known).any():
        assert score.scores()["ODS F"] == pytest.approx(best)
    else:
        assert math.isnan(score.scores()["ODS F"])


def test_one_threshold_serves_the_whole_set():
    score = BoundaryScore(0.0)
    for level in (0.2, 0.8):  # each image is perfect at a threshold of its own
        true = np.eye(4, dtype=bool)
        score.add(np.where(true, level, level / 2), true)
    # At 0.2 the other image's background is found, too: precision 8 / 20.
    assert score.scores() == {"ODS F": pytest.approx(2 * 4 / (4 + 8)), "threshold": 0.41}


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES)
def test_depth(seed, size):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.5, 5, (4, *size))
    found = true * rng.uniform(0.4, 2.5, true.shape)
    found[rng.random(true.shape) < 0.1] *= -1
    true[rng.random(true.shape) < 0.1] = rng.choice([0, np.nan, np.inf, -1])
    score = DepthScore()
    for piece in pieces(4, seed):
        score.add(found[piece], true[piece])
    known = np.isfinite(true) & (true > 0)
    d, t = found[known], true[known]
    scores = score.scores()
    if not known.any():
        assert all(math.isnan(value) for value in scores.values())
        return
    assert scores["AbsRel"] == pytest.approx(np.mean(np.abs(d - t) / t))
    for power, name in enumerate(("delta < 1.25", "delta < 1.25^2", "delta < 1.25^3"), 1):
        close = [v > 0 and max(v / w, w / v) < 1.25**power for v, w in zip(d, t, strict=True)]
        assert scores[name] == pytest.approx(np.mean(close))


def test_a_depth_that_is_not_a_number_shows():
    score = DepthScore()
    score.add(np.array([np.nan, 1.0]), np.array([1.0, 1.0]))
    assert math.isnan(score.scores()["AbsRel"]) and score.scores()["delta < 1.25"] == 0.5


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES)
def test_normals(seed, size):
    rng = np.random.default_rng(seed)
    true, found = rng.standard_normal((2, 3, 6, *size))
    found = true + rng.uniform(0, 1) * found
    true /= np.linalg.norm(true, axis=0)
    true[:, rng.random(true.shape[1:]) < 0.2] = 0
    score = NormalScore()
    for piece in pieces(6, seed):
        score.add(found[:, piece], true[:, piece])
    angles = sorted(
        math.degrees(math.acos(max(-1.0, min(1.0, np.dot(a, b) / np.linalg.norm(a)))))
        for a, b in zip(found.reshape(3, -1).T, true.reshape(3, -1).T, strict=True)
        if b.any()
    )
    scores = score.scores()
    if not angles:
        assert all(math.isnan(value) for value in scores.values())
        return
    assert scores["mean angle"] == pytest.approx(np.mean(angles))
    assert abs(scores["median angle"] - angles[(len(angles) + 1) // 2 - 1]) <= 0.0051
    for limit in (11.25, 22.5, 30):
        assert scores[f"within {limit:g}"] == pytest.approx(np.mean(np.array(angles) < limit))


def test_a_prediction_without_a_direction_is_at_a_right_angle():
    score = NormalScore()
    score.add(np.array([[0.0, np.nan], [0, 0], [0, 1]]), np.array([[0.0, 0], [0, 0], [1, 1]]))
    assert score.scores()["mean angle"] == 90


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES, SIZES)
def test_resizing_is_that_of_torch(seed, given_size, wanted):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(seed).standard_normal((2, *given_size)).astype(np.float32)
    kind = {"mode": "bilinear", "align_corners": False}
    other = torch.nn.functional.interpolate(torch.from_numpy(image)[None], wanted, **kind)[0]
    np.testing.assert_allclose(resized(image, wanted), other.numpy(), atol=1e-5)
