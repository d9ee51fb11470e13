"""Normalisation layers of gated networks, and what each does in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChaAtten(nn.Module):
    """The channel attention that replaces batch norm in the official network.

    y = (x - mu) / (sigma + 1e-5) * gamma + beta: the released code divides by the standard
    deviation plus epsilon, without a square root (its "globalVariance" is a sigma).

    Args:
        channels: Number of channels C.
        momentum: Weight of the newest batch in the running statistics.
    """

    eps = 1e-5

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_sigma: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_sigma", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by the batch's moments in training, by the running ones else."""
        if not self.training:
            scale, shift = affine_of(self)
            return x * scale[:, None, None] + shift[:, None, None]
        mean = x.mean((0, 2, 3))  # (C,)
        sigma = x.std((0, 2, 3), correction=0)  # (C,)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_sigma.lerp_(sigma, self.momentum)
        scale = self.weight / (sigma + self.eps)
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def make_norm(kind: str, channels: int) -> nn.Module:
    """The normalisation layer by name: "batch" or "cha_atten".

    Raises:
        ValueError: the name is another one.
    """
    kinds: dict[str, type[nn.BatchNorm2d | ChaAtten]] = {
        "batch": nn.BatchNorm2d,
        "cha_atten": ChaAtten,
    }
    if kind not in kinds:
        raise ValueError(f"norm {kind!r} is not one of {sorted(kinds)}")
    return kinds[kind](channels)


def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The scale and shift, each (C,), that a normalisation applies in evaluation.

    Raises:
        TypeError: the layer is neither BatchNorm2d with running statistics nor ChaAtten.
    """
    if isinstance(norm, ChaAtten):
        scale = norm.weight / (norm.running_sigma + norm.eps)
    elif isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else norm.weight * scale
    else:
        raise TypeError(f"{type(norm).__name__} cannot be folded into a convolution")
    shift = -norm.running_mean * scale  # type: ignore[operator]
    return scale, shift if norm.bias is None else norm.bias + shift
