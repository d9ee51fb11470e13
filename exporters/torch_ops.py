"""Our ops as torch operators, so that the exporter meets each call as one whole node.

The kernels are composite: with no translation table the exporter decomposes them into plain ONNX,
which gives a second, independent reference for free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pagdeploy.ops import DOMAIN, Activation, Distance, Mode, Normalization, Outside

_LIBRARY = torch.library.Library(DOMAIN, "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("pag_gate(Tensor logits) -> Tensor")  # type: ignore[no-untyped-call]
# No defaults: the tracer drops a keyword that equals its default, and every attribute must be
# written on the node.
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "perforated_conv(Tensor X, Tensor selection, Tensor W, Tensor? B, Tensor? base, *,"
    " int[] strides, int[] pads, int[] dilations, int group, int branch, int mode,"
    " int activation, float alpha) -> Tensor"
)
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "seg_aware_conv(Tensor X, Tensor E, Tensor W, Tensor? B, Tensor hardness, *, int[] strides,"
    " int[] pads, int[] dilations, int group, int distance, int normalization, int outside,"
    " float epsilon) -> Tensor"
)


def activate(y: Tensor, activation: int, alpha: float) -> Tensor:
    """The activation of a perforated convolution, by its number in the op table."""
    functions: dict[int, Callable[[Tensor], Tensor]] = {
        Activation.NONE: lambda t: t,
        Activation.RELU: F.relu,
        Activation.RELU6: F.relu6,
        Activation.LEAKY_RELU: lambda t: F.leaky_relu(t, alpha),
    }
    return functions[activation](y)


@torch.library.impl(_LIBRARY, "pag_gate", "CompositeImplicitAutograd")
def _pag_gate(logits: Tensor) -> Tensor:
    return logits.argmax(1, keepdim=True).to(torch.int32)  # (N, 1, H, W)


@torch.library.impl(_LIBRARY, "perforated_conv", "CompositeImplicitAutograd")
def _perforated_conv(
    X: Tensor,
    selection: Tensor,
    W: Tensor,
    B: Tensor | None,
    base: Tensor | None,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    branch: int,
    mode: int,
    activation: int,
    alpha: float,
) -> Tensor:
    top, left, bottom, right = pads
    padded = X if (top, left) == (bottom, right) else F.pad(X, (left, right, top, bottom))
    padding = [top, left] if padded is X else [0, 0]
    c = F.conv2d(padded, W, B, list(strides), padding, list(dilations), group)  # (N, Co, Ho, Wo)
    ground = c.new_zeros(()) if base is None else base
    selected = selection == branch  # (N, 1, Ho, Wo) or (N, 1, 1, 1)
    if mode == Mode.ADD:
        kept = torch.where(selected, c, c.new_zeros(()))
        return activate(ground + kept, activation, alpha)
    return torch.where(selected, activate(c, activation, alpha), ground)


@torch.library.impl(_LIBRARY, "seg_aware_conv", "CompositeImplicitAutograd")
def _seg_aware_conv(
    X: Tensor,
    E: Tensor,
    W: Tensor,
    B: Tensor | None,
    hardness: Tensor,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    distance: int,
    normalization: int,
    outside: int,
    epsilon: float,
) -> Tensor:
    kernel = int(W.shape[2]), int(W.shape[3])
    taps = kernel[0] * kernel[1]
    around = [pads[1], pads[3], pads[0], pads[2]]
    height, width = (
        (X.shape[2 + axis] + pads[axis] + pads[2 + axis] - dilations[axis] * (kernel[axis] - 1) - 1)
        // strides[axis]
        + 1
        for axis in range(2)
    )

    def windows(maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, T, Ho, Wo)"""
        padded = F.pad(maps, around)
        columns = F.unfold(padded, kernel, (*dilations,), 0, (*strides,))  # (N, C T, Ho Wo)
        return columns.view(maps.shape[0], maps.shape[1], taps, height, width)

    nearby = windows(E.float())  # (N, D, T, Ho, Wo)
    difference = nearby - nearby[:, :, taps // 2, None]
    is_l1 = distance == Distance.L1
    terms = difference.abs() if is_l1 else 0.5 * (difference * difference)
    scores = -hardness.float() * terms.sum(1, keepdim=True)  # (N, 1, T, Ho, Wo)
    if any(pads):
        inside = windows(torch.ones_like(E[:1, :1], dtype=torch.float32)) > 0.5  # (1, 1, T, Ho, Wo)
        beyond = 0.0 if outside == Outside.EQUAL else -torch.inf
        scores = torch.where(inside, scores, torch.full_like(scores, beyond))
    if normalization == Normalization.SOFTMAX:
        weights = scores.softmax(2)
    else:
        weights = scores.exp()
        if normalization == Normalization.BILATERAL:
            weights = weights / (weights.sum(2, keepdim=True) + epsilon)
    counted = (windows(X) * weights.to(X.dtype)).flatten(1, 2)  # (N, C T, Ho, Wo)
    return F.conv2d(counted, W.flatten(1)[:, :, None, None], B, groups=group)  # (N, M, Ho, Wo)


pag_gate = torch.ops.pagdeploy.pag_gate.default
perforated_conv = torch.ops.pagdeploy.perforated_conv.default
seg_aware_conv = torch.ops.pagdeploy.seg_aware_conv.default
