"""Depth-aware gating with recurrent refinement (Kong and Fowlkes, CVPR 2018, arXiv 1705.07238).

Near things are large: each pixel pools its context with the dilation that fits its depth. Five
dilated 3x3 branches with ReLU are mixed by a five-way head, and classes are predicted from the
mixture. A recurrent module repeats this on the features joined with its last prediction and its
last depth weights; it is unrolled three times with one set of parameters.

The official weights are the plain softmax: a soft mixture, which needs every branch and stays
dense. `hard` takes the argmax instead, the first index on a tie. How the official code joins
features and predictions is doubtful here; the branches and their mixture are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.multi_pool import STAGE_DILATIONS, STRIDES, DilationGate
from pagdeploy.exporters.models.parts import (
    RESNET_DEPTHS,
    Place,
    ResidualNet,
    conv_bn,
    example_images,
    seeded,
)
from pagdeploy.exporters.models.truncated_resnet import Block

DILATIONS = (1, 2, 4, 8, 16)
LOOPS = 3
PUBLISHED_DENSITY = 1 / 5  # of each branch, if pixels chose evenly


class DepthAwarePooling(nn.Module):
    """Five dilated 3x3, mixed per pixel, and the classes predicted from the mixture.

    Args:
        channels: C, of the input.
        width: Channels of the branches.
        classes: Number of classes.
        hard: One-hot weights instead of the softmax.
    """

    def __init__(self, channels: int, width: int, classes: int, *, hard: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(*conv_bn(channels, width, 1), nn.ReLU())
        self.gate = DilationGate(width, len(DILATIONS), soft=not hard)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=d, dilation=d), nn.ReLU())
            for d in DILATIONS
        )
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> class scores (N, classes, H, W) and depth weights (N, 5, H, W)."""
        x = self.reduce(x)  # (N, width, H, W)
        weights = self.gate(x)  # (N, 5, H, W)
        mixture = self.branches[0](x) * weights[:, 0:1]  # (N, width, H, W)
        for k in range(1, len(DILATIONS)):
            mixture = mixture + self.branches[k](x) * weights[:, k : k + 1]
        return self.classify(mixture), weights


class PerspectiveNet(nn.Module):
    """A stride-8 residual network, depth-aware pooling, and its recurrent refinement.

    Args:
        depths: Residual blocks per stage.
        width: Channels of the stem and of the branches.
        classes: Number of classes.
        loops: How often the recurrent module runs.
        hard: See `DepthAwarePooling`.
    """

    def __init__(
        self, depths: Sequence[int], width: int, classes: int, *, loops: int, hard: bool
    ) -> None:
        super().__init__()
        self.backbone = ResidualNet(_dilated_block, depths, width, 1, strides=STRIDES)
        channels = 4 * width << (len(depths) - 1)
        self.first = DepthAwarePooling(channels, 2 * width, classes, hard=hard)
        joined = channels + classes + len(DILATIONS)
        self.recurrent = DepthAwarePooling(joined, 2 * width, classes, hard=hard)
        self.loops = loops

    def forward(self, image: Tensor) -> Tensor:
        """Class scores of the last loop, (N, classes, H, W), of images (N, 3, H, W)."""
        features = self.backbone.stem(image)
        for block in self.backbone.blocks:
            features = block(features)  # (N, channels, H/8, W/8)
        scores, weights = self.first(features)
        for _ in range(self.loops):
            joined = torch.cat([features, scores.softmax(1), weights], 1)
            scores, weights = self.recurrent(joined)
        size = [image.shape[2], image.shape[3]]
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def _dilated_block(place: Place) -> nn.Module:
    block = Block(place)
    for conv in block.branch:
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            conv.dilation = conv.padding = (STAGE_DILATIONS[place.stage],) * 2
    return block


def resnet(
    depths: Sequence[int] = (1, 1),
    width: int = 8,
    *,
    classes: int = 5,
    loops: int = LOOPS,
    hard: bool = False,
) -> PerspectiveNet:
    """A settled network; small by default."""
    return seeded(
        lambda: PerspectiveNet(depths, width, classes, loops=loops, hard=hard),
        PUBLISHED_DENSITY,
        [example_images(4, 64)],
    )


def hardened() -> PerspectiveNet:
    """The small network with one branch per pixel."""
    return resnet(hard=True)


def resnet101() -> PerspectiveNet:
    """ResNet-101, 19 classes (Cityscapes), three loops, soft as published."""
    return resnet(RESNET_DEPTHS[101], 64, classes=19)


def hardened101() -> PerspectiveNet:
    """The ResNet-101 with one branch per pixel."""
    return resnet(RESNET_DEPTHS[101], 64, classes=19, hard=True)
