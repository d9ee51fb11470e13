"""SACT: spatially adaptive computation time (Figurnov et al., CVPR 2017, arXiv 1612.02297).

A stage is a run of pre-activation residual units over one state. After unit l each position has a
halting probability p_l; a position halts at the first unit N where p_1 + ... + p_N >= 1 - eps (the
last unit halts all). What follows leaves its state as it is: the residual is multiplied by the mask
of active positions. The output of the stage is the sum of the states, weighted by the halting
distribution: p_l before N, the remainder 1 - (p_1 + ... + p_(N-1)) at N, zero after. The ponder
cost is N plus the remainder.

As in the official code: eps = 0.01, the first unit is dense and takes the stride, conv1 of a masked
unit is read only where the 3x3 max-pooled mask is set, p is the sigmoid of a 3x3 convolution of
BN(state) plus a linear map of BN(mean of the state).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import (
    RESNET_DEPTHS,
    Gate,
    Place,
    centre,
    conv_bn,
    example_images,
    seeded,
)

PUBLISHED_DENSITY = 0.7  # ResNet-101 at tau = 0.005: 11.10 of about 15.6 GFLOP
EPS = 0.01


class Unit(nn.Module):
    """A pre-activation bottleneck: shortcut + M conv3(conv2(conv1(relu(bn(x))))).

    Args:
        place: Where the unit stands.
        dilate: Also zero conv1 outside the max-pooled mask; the result is the same.
    """

    def __init__(self, place: Place, *, dilate: bool = False) -> None:
        super().__init__()
        out = 4 * place.width
        self.dilate = dilate
        self.preact = nn.Sequential(nn.BatchNorm2d(place.channels), nn.ReLU())
        self.conv1 = nn.Sequential(*conv_bn(place.channels, place.width, 1), nn.ReLU())
        self.conv2 = nn.Sequential(*conv_bn(place.width, place.width, 3, place.stride), nn.ReLU())
        self.conv3 = nn.Conv2d(place.width, out, 1)
        same = place.channels == out
        self.shortcut = None if same else nn.Conv2d(place.channels, out, 1, place.stride)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride).

        Args:
            x: The state.
            mask: Ones at the active positions, (N, 1, H, W), float; None computes all.
        """
        preact = self.preact(x)
        shortcut = x if self.shortcut is None else self.shortcut(preact)
        residual = self.conv1(preact)  # (N, width, H, W)
        if mask is not None and self.dilate:
            residual = residual * F.max_pool2d(mask, 3, stride=1, padding=1)
        residual = self.conv3(self.conv2(residual))  # (N, 4 width, H', W')
        if mask is not None:
            residual = residual * mask
        y: Tensor = shortcut + residual
        return y


class HaltingProbability(Gate):
    """p = sigmoid(conv3x3(BN(x)) + linear(BN(mean(x)))).

    Args:
        channels: Channels of the state.
        units: Units of the stage; only `set_density` wants to know.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.local_bn, self.global_bn = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.local_conv = nn.Conv2d(channels, 1, 3, padding=1)
        self.global_conv = nn.Conv2d(channels, 1, 1, bias=False)

    def score(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        local: Tensor = self.local_conv(self.local_bn(x))  # (N, 1, H, W)
        pooled = self.global_bn(x.mean((2, 3), keepdim=True))  # (N, C, 1, 1)
        score: Tensor = local + self.global_conv(pooled)
        return score

    def forward(self, x: Tensor) -> Tensor:
        """The probability of halting here, (N, 1, H, W)."""
        return torch.sigmoid(self.score(x))

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """Let a share of positions halt here at once, so that the stage's mean is `density`.

        If a share g goes on after each of n units, the mean of g, g^2, ... g^(n-1) is about
        g^(n/2). The slope is steep: most others have a p near 0.
        """
        scale, shift = centre(self.score(*inputs), 1 - density ** (2 / self.units))
        slope, certain = 8.0, math.log((1 - EPS) / EPS)
        assert self.local_conv.bias is not None
        self.local_conv.weight.mul_(slope * scale)
        self.global_conv.weight.mul_(slope * scale)
        self.local_conv.bias.copy_(slope * (self.local_conv.bias * scale + shift) + certain)


class Halted(NamedTuple):
    """What a stage returns.

    Attributes:
        output: Sum of the states weighted by the halting distribution, (N, C, H, W).
        ponder_cost: Units evaluated plus the remainder, (N, 1, H, W).
        units: Units evaluated, (N, 1, H, W), float.
    """

    output: Tensor
    ponder_cost: Tensor
    units: Tensor


class Stage(nn.Module):
    """Units over one state, of which each position takes as many as it needs.

    Args:
        units: The units; the first one may change the shape.
        channels: Channels of the state.
    """

    def __init__(self, units: Sequence[Unit], channels: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.halting = nn.ModuleList(HaltingProbability(channels, len(units)) for _ in units[:-1])

    def forward(self, x: Tensor) -> Halted:
        """(N, C, H, W) -> the halted state."""
        state = self.units[0](x)  # (N, C', H', W')
        total = torch.zeros_like(state[:, :1])  # (N, 1, H', W')
        remainder, ponder_cost = torch.ones_like(total), torch.ones_like(total)
        units, output = torch.zeros_like(total), torch.zeros_like(state)
        finished = torch.zeros_like(total, dtype=torch.bool)
        for index, unit in enumerate(self.units):
            if index:
                state = unit(state, torch.logical_not(finished).float())
            last = index == len(self.units) - 1
            p = torch.ones_like(total) if last else self.halting[index](state)
            total = total + p
            now_finished = total >= 1 - EPS
            p = torch.where(now_finished, torch.zeros_like(p), p)
            just = torch.logical_and(torch.logical_not(finished), now_finished)
            output = output + state * torch.where(just, remainder, p)
            ending = torch.where(just, remainder, torch.zeros_like(remainder))
            ponder_cost = ponder_cost + torch.where(now_finished, ending, torch.ones_like(total))
            units = units + torch.logical_not(finished).float()
            remainder = remainder - p
            finished = now_finished
        return Halted(output, ponder_cost, units)


class SACT(nn.Module):
    """The classifier; a pre-activation ResNet with one halting stage per stage.

    Args:
        depths: Units per stage.
        width: Channels of the stem.
        classes: Number of classes.
        dilate: See `Unit`.
    """

    def __init__(
        self, depths: Sequence[int], width: int, classes: int, *, dilate: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        channels = width
        for stage, depth in enumerate(depths):
            units = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                place = Place(stage, index, channels, width << stage, stride)
                units.append(Unit(place, dilate=dilate))
                channels = 4 * place.width
            self.stages.append(Stage(units, channels))
        self.postnorm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes) and the ponder map (N, 1, H, W), of images (N, 3, H, W).

        The map is the sum of the stages' ponder costs, each resized to the image by nearest.
        """
        x = self.stem(image)  # (N, width, H/4, W/4)
        maps = []
        for stage in self.stages:
            x, ponder_cost, _ = stage(x)
            maps.append(F.interpolate(ponder_cost, size=image.shape[2:], mode="nearest"))
        logits = self.head(self.postnorm(x).mean((2, 3)))
        return logits, torch.stack(maps).sum(0)


def resnet(
    depths: Sequence[int] = (3, 3), width: int = 8, *, classes: int = 10, dilate: bool = False
) -> SACT:
    """A settled network; small by default."""
    return seeded(
        lambda: SACT(depths, width, classes, dilate=dilate),
        PUBLISHED_DENSITY,
        [example_images(8, 64)],
    )


def resnet101() -> SACT:
    """The published ResNet-101: 29 masked units in four stages."""
    return resnet(RESNET_DEPTHS[101], 64, classes=1000)
