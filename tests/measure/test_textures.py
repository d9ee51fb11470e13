"""Forced selections have the density that was asked for, and the texture that they are named by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagdeploy.errors import UsageError
from pagdeploy.measure.textures import TEXTURES, make_selection

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
WEIGHTS = st.lists(st.integers(0, 9), min_size=2, max_size=16).filter(any)


def binary(texture: str, density: float, shape=(1, 120, 160), seed: int = 0) -> np.ndarray:
    return make_selection(texture, shape, [1 - density, density], np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(TEXTURES)), SHAPES, WEIGHTS, st.integers(0, 99))
def test_each_branch_has_its_share_to_within_one_pixel(texture, shape, weights, seed):
    shares = np.array(weights) / sum(weights)
    selection = make_selection(texture, shape, shares, np.random.default_rng(seed))
    assert selection.shape == (shape[0], 1, *shape[1:]) and selection.dtype == np.int32
    counts = np.bincount(selection.ravel(), minlength=len(shares))
    assert len(counts) == len(shares)
    assert np.all(np.abs(counts - shares * selection.size) <= 1)
    again = make_selection(texture, shape, shares, np.random.default_rng(seed))
    np.testing.assert_array_equal(selection, again)


@pytest.mark.parametrize("texture", TEXTURES)
def test_nothing_and_everything_are_exact(texture):
    assert binary(texture, 0.0).max() == 0
    assert binary(texture, 1.0).min() == 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(TEXTURES)), st.floats(0, 1), st.floats(0, 1))
def test_denser_selections_hold_the_pixels_of_sparser_ones(texture, one, other):
    sparse, dense = sorted((one, other))
    assert np.all(binary(texture, sparse, (2, 9, 13)) <= binary(texture, dense, (2, 9, 13)))


@pytest.mark.parametrize("texture", TEXTURES)
def test_another_seed_gives_other_pixels(texture):
    assert not np.array_equal(binary(texture, 0.5), binary(texture, 0.5, seed=1))


def runs_along_rows(mask: np.ndarray) -> tuple[float, float]:
    """Mean lengths of the runs of ones and of zeros."""
    rows = mask.reshape(-1, mask.shape[-1])
    starts = (np.diff(rows, axis=1) == 1).sum() + rows[:, 0].sum()
    ends = (np.diff(rows, axis=1) == -1).sum() + (1 - rows[:, 0]).sum()
    return rows.sum() / starts, (rows.size - rows.sum()) / ends


def test_pag_has_runs_of_five_computed_and_two_skipped_pixels():
    on, off = runs_along_rows(binary("pag", 5 / 7, (1, 300, 700)))
    assert on == pytest.approx(5, abs=0.3)
    assert off == pytest.approx(2, abs=0.15)


def neighbours_that_agree(mask: np.ndarray) -> float:
    """Share of pixels that decide as the pixel below them."""
    return float((np.diff(mask, axis=2) == 0).mean())


def test_salt_is_independent_blobs_are_smooth_and_blocks_are_square():
    salt, blob, block = (binary(name, 0.5) for name in ("salt", "blob", "block"))
    assert neighbours_that_agree(salt) == pytest.approx(0.5, abs=0.02)
    assert neighbours_that_agree(blob) > 0.9
    squares = block[0, 0].reshape(15, 8, 20, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
    mixed = [square for square in squares if 0 < square.sum() < 64]
    assert len(mixed) <= 1, "one square is cut so that the density is exact"


def test_what_is_no_texture_or_no_whole_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"no texture 'pepper'\. Choose one of: salt, pag, blob"):
        make_selection("pepper", (1, 2, 2), [0.5, 0.5], rng)
    for shares in ([0.5, 0.1], [1.5, -0.5], [np.nan, 1.0]):
        with pytest.raises(UsageError, match="must sum to 1"):
            make_selection("salt", (1, 2, 2), shares, rng)
