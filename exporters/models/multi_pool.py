"""MultiPool: each pixel chooses one of K dilations of a 3x3 (arXiv 1805.01556, WACV 2019).

The head (1x1 -> 128, 3x3 -> 32, 1x1 -> K) reads X, the input of the 3x3; its scores go through
softmax, argmax (the first index wins a tie) and one-hot, and the output is the sum of the K
branches by their weights, as the official `MaskGating` computes it: every branch at every pixel.
Dilation 0 copies X.

The released functions differ, and so do the options here. `insertPyramidPool`, used at res5_2:
large dilations first, then the block's own 3x3, then the copy. `insertScaleAttentionPyramidModule`:
the copy first, then small dilations. No released code ties the weights; the paper describes one
kernel. The published insert functions use the plain softmax: `soft` keeps it, and such a mixture
needs every branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import (
    RESNET_DEPTHS,
    Gate,
    Place,
    ResidualNet,
    conv_bn,
    example_images,
    seeded,
    shortcut,
)

RELEASED = (10, 8, 6, 4, 2, 1, 0)  # insertPyramidPool: large first, own 3x3, copy last
ASCENDING = (0, 1, 2, 4, 6, 8, 10)  # the paper's set, in the order of the other functions
PUBLISHED_DENSITY = 1 / 7  # of each branch, if pixels chose evenly
STRIDES, STAGE_DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)


class DilationGate(Gate):
    """The weights of K branches per pixel, one-hot or soft.

    Args:
        channels: C, of X.
        branches: K.
        soft: Plain softmax.
    """

    def __init__(self, channels: int, branches: int, *, soft: bool = False) -> None:
        super().__init__()
        wide, narrow = min(128, 2 * channels), min(32, channels)
        self.features = nn.Sequential(
            *conv_bn(channels, wide, 1), nn.ReLU(), *conv_bn(wide, narrow, 3), nn.ReLU()
        )
        self.scores = nn.Conv2d(narrow, branches, 1)
        self.soft = soft

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> weights (N, K, H, W) that sum to 1."""
        probabilities: Tensor = self.scores(self.features(x)).softmax(1)  # (N, K, H, W)
        if self.soft:
            return probabilities
        one_hot = F.one_hot(probabilities.argmax(1), probabilities.shape[1])  # (N, H, W, K)
        return one_hot.permute(0, 3, 1, 2).float()

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """Make all branches equally likely; `density` is not asked."""
        scores = self.scores(self.features(*inputs))  # (N, K, H, W)
        deviation, mean = torch.std_mean(scores, (0, 2, 3))  # each (K,)
        deviation = deviation.clamp_min(1e-6)
        assert self.scores.bias is not None
        self.scores.weight.div_(deviation.view(-1, 1, 1, 1))
        self.scores.bias.copy_((self.scores.bias - mean) / deviation)


class MultiPool(nn.Module):
    """Per pixel, the 3x3 of the dilation that the gate chose, with batch norm and ReLU.

    Args:
        channels: C, of input and output.
        dilations: One per branch, in the order of the gate's scores; 0 copies the input.
        tied: One kernel for all branches; each keeps its own batch norm.
        soft: See `DilationGate`.
    """

    def __init__(
        self, channels: int, dilations: Sequence[int], *, tied: bool = False, soft: bool = False
    ) -> None:
        super().__init__()
        self.gate = DilationGate(channels, len(dilations), soft=soft)
        self.branches = nn.ModuleList(
            nn.Sequential(*conv_bn(channels, channels, 3, dilation=dilation), nn.ReLU())
            if dilation
            else nn.Identity()
            for dilation in dilations
        )
        if tied:
            convs = [b[0] for b in self.branches if isinstance(b, nn.Sequential)]
            for conv in convs:
                conv.weight = convs[0].weight

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        weights = self.gate(x)  # (N, K, H, W)
        y: Tensor = self.branches[0](x) * weights[:, 0:1]  # (N, C, H, W)
        for k, branch in enumerate(list(self.branches)[1:], 1):
            y = y + branch(x) * weights[:, k : k + 1]
        return y


class Block(nn.Module):
    """A residual bottleneck, with MultiPool for its 3x3 if dilations are given.

    Args:
        place: Where the block stands.
        dilations: Of MultiPool; None is a dense 3x3.
        tied: See `MultiPool`.
        soft: See `DilationGate`.
    """

    def __init__(
        self, place: Place, dilations: Sequence[int] | None, *, tied: bool, soft: bool
    ) -> None:
        super().__init__()
        width, dilation = place.width, STAGE_DILATIONS[place.stage]
        self.conv1 = nn.Sequential(*conv_bn(place.channels, width, 1, place.stride), nn.ReLU())
        self.conv2: nn.Module
        if dilations is None:
            self.conv2 = nn.Sequential(*conv_bn(width, width, 3, dilation=dilation), nn.ReLU())
        else:
            self.conv2 = MultiPool(width, dilations, tied=tied, soft=soft)
        self.conv3 = conv_bn(width, 4 * width, 1)
        self.shortcut = shortcut(place)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        return F.relu(self.shortcut(x) + self.conv3(self.conv2(self.conv1(x))))


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    dilations: Sequence[int] = RELEASED,
    tied: bool = False,
    soft: bool = False,
    classes: int = 10,
) -> ResidualNet:
    """A settled stride-8 network with MultiPool in its second last block; small by default."""

    def block(place: Place) -> nn.Module:
        here = place.stage == len(depths) - 1 and place.order == depths[-1] - 2
        return Block(place, dilations if here else None, tied=tied, soft=soft)

    return seeded(
        lambda: ResidualNet(block, depths, width, classes, strides=STRIDES),
        PUBLISHED_DENSITY,
        [example_images(4, 64)],
    )


def resnet50() -> ResidualNet:
    """ResNet-50 with the released pyramid at res5_2."""
    return resnet(RESNET_DEPTHS[50], 64, classes=1000)


def tied() -> ResidualNet:
    """The small network with the paper's set of dilations, the copy first, and one kernel."""
    return resnet(dilations=ASCENDING, tied=True)


def tied50() -> ResidualNet:
    """ResNet-50 with the paper's set of dilations, the copy first, and one kernel."""
    return resnet(RESNET_DEPTHS[50], 64, dilations=ASCENDING, tied=True, classes=1000)
