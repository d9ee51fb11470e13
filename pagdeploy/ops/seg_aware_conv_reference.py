"""SegAwareConv in numpy: the specification that every other implementation is held to."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagdeploy.errors import UsageError
from pagdeploy.ops.perforated_conv_reference import check_operands, output_size

NAME = "SegAwareConv"


class Distance(enum.IntEnum):
    """How far apart two embeddings are."""

    L1 = 1
    L2 = 2


class Normalization(enum.IntEnum):
    """What becomes of the neighbours' weights."""

    NONE = 0
    SOFTMAX = 1
    BILATERAL = 2


class Outside(enum.IntEnum):
    """What a neighbour outside of the image is taken for."""

    EQUAL = 0
    REMOVED = 1


def seg_aware_conv(
    X: NDArray[Any],
    E: NDArray[Any],
    W: NDArray[Any],
    B: NDArray[Any],
    hardness: NDArray[Any],
    *,
    kernel_shape: Sequence[int] | None = None,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    distance: int = Distance.L1,
    normalization: int = Normalization.NONE,
    outside: int = Outside.EQUAL,
    epsilon: float = 1e-4,
) -> NDArray[Any]:
    """The op in numpy: double precision inside, rounded once to the dtype of X.

    Args:
        X: Input of shape (N, C, H, W), any float dtype.
        E: Embeddings of shape (N, D, H, W), any float dtype.
        W: Weights of shape (M, C / group, kernel height, kernel width).
        B: Bias of shape (M,).
        hardness: lambda, of shape ().
        kernel_shape: Kernel height and width, both odd; taken from W if None.
        strides: Steps in y and x.
        pads: Zeros added at the top, left, bottom and right; at most half of the kernel's reach,
            so that every window has its centre inside of the image.
        dilations: Distance between kernel taps in y and x.
        group: Number of groups.
        distance: A `Distance`.
        normalization: A `Normalization`.
        outside: An `Outside`.
        epsilon: Added to the sum of the weights in the bilateral form.

    Returns:
        Y of shape (N, M, Ho, Wo) and the dtype of X.

    Raises:
        UsageError: a rank, a shape or an attribute cannot be right.
    """
    kernel_shape = W.shape[2:] if kernel_shape is None else tuple(kernel_shape)
    check_operands(X, W, B, kernel_shape, group, op=NAME)
    require_centred(kernel_shape, pads, dilations)
    _check_choices(distance, normalization, outside)
    out = output_size(X.shape[2:], kernel_shape, strides, pads, dilations, op=NAME)
    _check_embeddings(X, E, hardness)

    n, channels, m = X.shape[0], X.shape[1], W.shape[0]
    geometry = (kernel_shape, strides, pads, dilations, out)
    w = W.astype(np.float64).reshape(group, m // group, channels // group, *W.shape[2:])
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are legal values
        scores = _scores(E, float(hardness), distance, outside, geometry)  # (N, T, Ho, Wo)
        weights = _weights(scores, normalization, epsilon)  # (N, T, Ho, Wo)
        y = np.zeros((n, group, m // group, *out))  # (N, G, M/G, Ho, Wo)
        for tap, x in enumerate(_windows(X.astype(np.float64), geometry)):
            i, j = divmod(tap, kernel_shape[1])
            counted = (x * weights[:, tap, None]).reshape(n, group, channels // group, *out)
            y += np.einsum("gmc,ngchw->ngmhw", w[..., i, j], counted)
        y = y.reshape(n, m, *out) + B.astype(np.float64).reshape(1, m, 1, 1)
        return y.astype(X.dtype)  # (N, M, Ho, Wo)


def require_centred(
    kernel_shape: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> None:
    """Refuse a window that has no centre, or whose centre may lie outside of the image.

    Args:
        kernel_shape: Kernel height and width.
        pads: At the top, left, bottom and right.
        dilations: In y and x.

    Raises:
        UsageError: a kernel size is even, or a pad is larger than half of the kernel's reach.
    """
    if any(size % 2 == 0 for size in kernel_shape):
        raise UsageError(
            f"The attribute kernel_shape of {NAME} is {list(kernel_shape)}: such a window has no "
            "centre.",
            remedy="Give a kernel of odd height and width.",
        )
    half = [dilations[axis] * (kernel_shape[axis] // 2) for axis in range(len(kernel_shape))]
    if any(pad > limit for pad, limit in zip(pads, (*half, *half), strict=False)):
        raise UsageError(
            f"The attribute pads of {NAME} is {list(pads)}: the centre of a window would lie "
            "outside of the image.",
            remedy=f"Give at most {half[0]} above and below, and {half[-1]} on the left and right.",
        )


Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int], tuple[int, int]]


def _windows(x: NDArray[np.float64], geometry: Geometry) -> list[NDArray[np.float64]]:
    """For each tap, in the order of the kernel, what it reads: (N, C, Ho, Wo)."""
    kernel_shape, strides, (top, left, bottom, right), dilations, out = geometry
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    found = []
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            y0, x0 = i * dilations[0], j * dilations[1]
            rows = slice(y0, y0 + (out[0] - 1) * strides[0] + 1, strides[0])
            columns = slice(x0, x0 + (out[1] - 1) * strides[1] + 1, strides[1])
            found.append(padded[..., rows, columns])
    return found


def _scores(
    E: NDArray[Any], hardness: float, distance: int, outside: int, geometry: Geometry
) -> NDArray[np.float64]:
    """-lambda times the distance of each neighbour to the centre, (N, T, Ho, Wo)."""
    windows = _windows(E.astype(np.float64), geometry)
    centre = windows[len(windows) // 2]
    inside = _windows(np.ones((1, 1, *E.shape[2:])), geometry)
    scores = []
    for window, within in zip(windows, inside, strict=True):
        difference = window - centre  # (N, D, Ho, Wo)
        terms = np.abs(difference) if distance == Distance.L1 else 0.5 * difference**2
        beyond = 0.0 if outside == Outside.EQUAL else -np.inf
        scores.append(np.where(within[:, 0] > 0, -hardness * terms.sum(1), beyond))
    return np.stack(scores, 1)


def _weights(
    scores: NDArray[np.float64], normalization: int, epsilon: float
) -> NDArray[np.float64]:
    """How much each neighbour counts; the same shape."""
    if normalization == Normalization.SOFTMAX:
        scores = scores - scores.max(1, keepdims=True)
    weights: NDArray[np.float64] = np.exp(scores)
    if normalization == Normalization.NONE:
        return weights
    total = weights.sum(1, keepdims=True)
    if normalization == Normalization.BILATERAL:
        total = total + epsilon
    shares: NDArray[np.float64] = weights / total
    return shares


def _check_choices(distance: int, normalization: int, outside: int) -> None:
    rows: tuple[tuple[str, int, type[enum.IntEnum]], ...] = (
        ("distance", distance, Distance),
        ("normalization", normalization, Normalization),
        ("outside", outside, Outside),
    )
    for name, value, choices in rows:
        if value not in {int(choice) for choice in choices}:
            words = ", ".join(f"{choice.value} ({choice.name.lower()})" for choice in choices)
            raise UsageError(
                f"The attribute {name} of {NAME} is {value}.", remedy=f"Give one of {words}."
            )


def _check_embeddings(X: NDArray[Any], E: NDArray[Any], hardness: NDArray[Any]) -> None:
    if E.ndim != 4 or E.shape[0] != X.shape[0]:
        raise UsageError(
            f"The embeddings of {NAME} have the shape {E.shape}, not ({X.shape[0]}, D, H, W).",
            remedy="Give one map of embeddings for each image.",
        )
    require_same_size(E.shape[2:], X.shape[2:])
    if np.shape(hardness) != ():
        raise UsageError(
            f"The hardness of {NAME} has the shape {np.shape(hardness)}, not ().",
            remedy="Give one number.",
        )


def require_same_size(embeddings: Sequence[int], image: Sequence[int]) -> None:
    """Refuse embeddings of another resolution.

    Args:
        embeddings: Their height and width.
        image: Those of the input.

    Raises:
        UsageError: they differ.
    """
    if tuple(embeddings) != tuple(image):
        raise UsageError(
            f"The embeddings of {NAME} are {embeddings[0]}x{embeddings[1]}, but its input is "
            f"{image[0]}x{image[1]}.",
            remedy="Resize the embeddings to the input.",
        )
