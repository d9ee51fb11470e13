"""PerforatedConv in numpy: the specification that every other implementation is held to."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagdeploy.errors import UsageError


class Mode(enum.IntEnum):
    """What becomes of the convolution's result."""

    REPLACE = 0
    ADD = 1


class Activation(enum.IntEnum):
    """The function applied behind the convolution."""

    NONE = 0
    RELU = 1
    RELU6 = 2
    LEAKY_RELU = 3


def perforated_conv(
    X: NDArray[Any],
    selection: NDArray[Any],
    W: NDArray[Any],
    B: NDArray[Any],
    base: NDArray[Any],
    *,
    kernel_shape: Sequence[int] | None = None,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    branch: int = 1,
    mode: int = Mode.REPLACE,
    activation: int = Activation.NONE,
    alpha: float = 0.01,
) -> NDArray[Any]:
    """The op in numpy: double precision inside, rounded once to the dtype of X.

    Args:
        X: Input of shape (N, C, H, W), any float dtype.
        selection: int32 of shape (N, 1, Ho, Wo), or (N, 1, 1, 1) for one decision per image.
        W: Weights of shape (M, C / group, kernel height, kernel width).
        B: Bias of shape (M,).
        base: What an inactive pixel shows: (N, M, Ho, Wo), or (1, 1, 1, 1) for one value.
        kernel_shape: Kernel height and width; taken from W if None.
        strides: Steps in y and x.
        pads: Zeros added at the top, left, bottom and right.
        dilations: Distance between kernel taps in y and x.
        group: Number of groups.
        branch: The value of the selection for which a pixel is active.
        mode: A `Mode`.
        activation: An `Activation`.
        alpha: Slope of the leaky relu for negative values.

    Returns:
        Y of shape (N, M, Ho, Wo) and the dtype of X.

    Raises:
        UsageError: a rank, a shape, the selection's dtype or an attribute cannot be right.
    """
    require_branch(branch)
    kernel_shape = W.shape[2:] if kernel_shape is None else tuple(kernel_shape)
    check_operands(X, W, B, kernel_shape, group)
    _check_choices(mode, activation)
    height, width = output_size(X.shape[2:], kernel_shape, strides, pads, dilations)
    _check_selection(selection, X.shape[0], height, width)
    _check_base(base, (X.shape[0], W.shape[0], height, width))

    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are legal values
        c = _conv(X, W, B, (height, width), strides, pads, dilations, group)  # (N, M, Ho, Wo)
        active = selection == branch  # (N, 1, Ho, Wo) or (N, 1, 1, 1)
        shown = base.astype(np.float64)  # (N, M, Ho, Wo) or (1, 1, 1, 1)
        if mode == Mode.ADD:
            y = _activate(shown + np.where(active, c, 0.0), activation, alpha)
        else:
            y = np.where(active, _activate(c, activation, alpha), shown)
        return y.astype(X.dtype)  # (N, M, Ho, Wo)


def output_size(
    size: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    *,
    op: str = "PerforatedConv",
) -> tuple[int, int]:
    """Height and width of a convolution's output, as ONNX `Conv` defines them.

    Raises:
        UsageError: the kernel does not fit into the padded input, or an attribute is malformed;
            the message names `op`.
    """
    _check_geometry(kernel_shape, strides, pads, dilations, op)
    result = []
    for axis in range(2):
        padded = size[axis] + pads[axis] + pads[axis + 2]
        reach = dilations[axis] * (kernel_shape[axis] - 1) + 1
        if padded < reach:
            raise UsageError(
                f"A kernel that reaches over {reach} pixels does not fit into an input of "
                f"{size[0]}x{size[1]} pixels with the pads {list(pads)}.",
                remedy="Give a larger input, or more padding.",
            )
        result.append((padded - reach) // strides[axis] + 1)
    return result[0], result[1]


def require_branch(branch: int, branches: int | None = None) -> None:
    """Refuse a branch that no selection can hold.

    Args:
        branch: The attribute.
        branches: K, the number of channels of the gate's logits, if it is known.

    Raises:
        UsageError: the branch is negative, or not below K.
    """
    if branch < 0:
        raise UsageError(
            f"The branch of a PerforatedConv is {branch}; branches are counted from 0.",
            remedy="Give the index of the gate channel that switches this convolution on.",
        )
    if branches is not None and branch >= branches:
        raise UsageError(
            f"The branch of a PerforatedConv is {branch}, but its gate has {branches} channels: "
            f"the branches are 0..{branches - 1}.",
            remedy="Give the index of the gate channel that switches this convolution on.",
        )


def _conv(
    X: NDArray[Any],
    W: NDArray[Any],
    B: NDArray[Any],
    out: tuple[int, int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> NDArray[np.float64]:
    """conv(X, W) + B in double precision, one kernel tap after the other."""
    top, left, bottom, right = pads
    x = np.pad(X.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    n, channels = x.shape[:2]
    m, _, kernel_height, kernel_width = W.shape
    x = x.reshape(n, group, channels // group, *x.shape[2:])  # (N, G, C/G, H, W)
    w = W.astype(np.float64).reshape(group, m // group, channels // group, *W.shape[2:])
    y = np.zeros((n, group, m // group, *out))  # (N, G, M/G, Ho, Wo)
    for i in range(kernel_height):
        for j in range(kernel_width):
            top, left = i * dilations[0], j * dilations[1]
            rows = slice(top, top + (out[0] - 1) * strides[0] + 1, strides[0])
            columns = slice(left, left + (out[1] - 1) * strides[1] + 1, strides[1])
            y += np.einsum("gmc,ngchw->ngmhw", w[..., i, j], x[..., rows, columns])
    return y.reshape(n, m, *out) + B.astype(np.float64).reshape(1, m, 1, 1)


def _activate(y: NDArray[np.float64], activation: int, alpha: float) -> NDArray[np.float64]:
    """The activation; a NaN stays a NaN."""
    if activation == Activation.RELU:
        return np.maximum(y, 0.0)
    if activation == Activation.RELU6:
        return np.minimum(np.maximum(y, 0.0), 6.0)
    if activation == Activation.LEAKY_RELU:
        return np.where(y < 0.0, alpha * y, y)
    return y


def _check_geometry(
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    op: str,
) -> None:
    rows = (
        ("kernel_shape", kernel_shape, 2, 1),
        ("strides", strides, 2, 1),
        ("pads", pads, 4, 0),
        ("dilations", dilations, 2, 1),
    )
    for name, values, count, least in rows:
        if len(values) != count or min(values) < least:
            raise UsageError(
                f"The attribute {name} of {op} is {list(values)}.",
                remedy=f"Give {count} integers of at least {least}.",
            )


def check_operands(
    X: NDArray[Any],
    W: NDArray[Any],
    B: NDArray[Any],
    kernel_shape: Sequence[int],
    group: int,
    *,
    op: str = "PerforatedConv",
) -> None:
    """Refuse an input, weights and a bias that do not fit each other.

    Raises:
        UsageError: a rank or a shape is wrong; the message names `op`.
    """
    for name, array, axes in (
        ("X", X, "(N, C, H, W)"),
        ("W", W, "(M, C / group, kernel height, kernel width)"),
    ):
        if array.ndim != 4:
            raise UsageError(
                f"The input {name} of {op} has the rank {array.ndim}, not 4.",
                remedy=f"Give an array of shape {axes}.",
            )
    m, channels = W.shape[:2]
    if group < 1 or m % group or X.shape[1] != channels * group:
        raise UsageError(
            f"Weights of shape {W.shape} in {group} groups do not fit an input of "
            f"{X.shape[1]} channels.",
            remedy="Give weights of shape (M, C / group, ...), with M a multiple of group.",
        )
    if tuple(kernel_shape) != W.shape[2:]:
        raise UsageError(
            f"The attribute kernel_shape is {list(kernel_shape)}, but W is {W.shape}.",
            remedy="Let kernel_shape be the last two sizes of W.",
        )
    if B.shape != (m,):
        raise UsageError(
            f"The bias of {op} has the shape {B.shape}, not ({m},).",
            remedy="Give one value per output channel; zeros where there is no bias.",
        )


def _check_choices(mode: int, activation: int) -> None:
    for name, value, choices in (("mode", mode, Mode), ("activation", activation, Activation)):
        if value not in {int(choice) for choice in choices}:
            words = ", ".join(f"{choice.value} ({choice.name.lower()})" for choice in choices)
            raise UsageError(
                f"The attribute {name} of PerforatedConv is {value}.",
                remedy=f"Give one of {words}.",
            )


def _check_selection(selection: NDArray[Any], n: int, height: int, width: int) -> None:
    if selection.dtype != np.int32:
        raise UsageError(
            f"The selection of PerforatedConv is {selection.dtype}, not int32.",
            remedy="Take it from a PAGGate, or cast it to int32.",
        )
    if selection.ndim != 4:
        raise UsageError(
            f"The selection of PerforatedConv has the rank {selection.ndim}, not 4.",
            remedy="Give (N, 1, H, W), or (N, 1, 1, 1) for one decision per image.",
        )
    if selection.shape[:2] != (n, 1):
        raise UsageError(
            f"The selection of PerforatedConv has the shape {selection.shape}, which does not "
            f"begin with ({n}, 1).",
            remedy=f"Give one channel for each of the {n} images.",
        )
    require_size(selection.shape[2:], (height, width))


def require_size(selection: Sequence[int], output: Sequence[int]) -> None:
    """Refuse a selection that is neither at output resolution nor one decision per image.

    Args:
        selection: Its height and width.
        output: Height and width of the op's output.

    Raises:
        UsageError: they differ, and the selection is not 1x1.
    """
    if tuple(selection) not in (tuple(output), (1, 1)):
        raise UsageError(
            f"The selection of PerforatedConv is {selection[0]}x{selection[1]}, but its output is "
            f"{output[0]}x{output[1]}.",
            remedy="Resize the selection to the output, or give one decision per image as "
            "(N, 1, 1, 1).",
        )


def _check_base(base: NDArray[Any], output: tuple[int, ...]) -> None:
    if base.shape not in (output, (1, 1, 1, 1)):
        raise UsageError(
            f"The base of PerforatedConv has the shape {base.shape}, but its output is {output}.",
            remedy="Give a base of the output's shape, or (1, 1, 1, 1) for one value everywhere.",
        )
