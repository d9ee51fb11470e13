"""Comparison of two arrays by a scale-free error; a failure names the first bad coordinate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scale_free_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """max|a - b| / max|b| over the finite values of `expected`; |b| of at least 1e-6 is assumed."""
    finite = np.isfinite(expected.astype(np.float64))
    a, b = actual.astype(np.float64)[finite], expected.astype(np.float64)[finite]
    return float(np.max(np.abs(a - b), initial=0.0) / np.max(np.abs(b), initial=1e-6))


def assert_close(
    actual: NDArray[Any],
    expected: NDArray[Any],
    bound: float,
    selection: NDArray[Any] | None = None,
) -> None:
    """Require equal shape and dtype, NaN and Inf in the same places, and an error within `bound`.

    Args:
        actual: What was computed.
        expected: What it is held to.
        bound: The largest scale-free error.
        selection: The selection (N, 1, H, W) or (N, 1, 1, 1), to explain a failure.
    """
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    scale = np.max(np.abs(b[finite]), initial=1e-6)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    near = np.zeros(a.shape, bool)
    both = finite & np.isfinite(a)
    near[both] = np.abs(a[both] - b[both]) <= bound * scale
    bad = np.argwhere(~(same | near))
    if not len(bad):
        return
    first = tuple(int(i) for i in bad[0])
    message = (
        f"{len(bad)} of {a.size} values differ by more than {bound:g} of {scale:g}; first at "
        f"{first}: {a[first]!r}, expected {b[first]!r}"
    )
    if selection is not None:
        n, _, y, x = first
        at = (n, 0, min(y, selection.shape[2] - 1), min(x, selection.shape[3] - 1))
        message += f"; selection there: {int(selection[at])}"
    raise AssertionError(message)
