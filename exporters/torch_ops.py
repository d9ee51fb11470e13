"""Our ops as torch operators, so that the exporter meets each call as one whole node.

The kernels are composite: with no translation table the exporter decomposes them into plain ONNX,
which gives a second, independent reference for free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pagdeploy.ops import DOMAIN, Activation, Mode

_LIBRARY = torch.library.Library(DOMAIN, "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("pag_gate(Tensor logits) -> Tensor")  # type: ignore[no-untyped-call]
# No defaults: the tracer drops a keyword that equals its default, and every attribute must be
# written on the node.
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "perforated_conv(Tensor X, Tensor selection, Tensor W, Tensor? B, Tensor? base, *,"
    " int[] strides, int[] pads, int[] dilations, int group, int branch, int mode,"
    " int activation, float alpha) -> Tensor"
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


pag_gate = torch.ops.pagdeploy.pag_gate.default
perforated_conv = torch.ops.pagdeploy.perforated_conv.default
