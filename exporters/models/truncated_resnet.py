"""Truncated ResNet: the baseline of the PAG paper that skips the same blocks everywhere.

A static network saves what a gated one saves by leaving out the last blocks of each stage, for
every pixel alike (arXiv 1805.01556). Nothing is gated, so that a compiler must leave it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import (
    RESNET_DEPTHS,
    Place,
    ResidualNet,
    bottleneck,
    example_images,
    seeded,
    shortcut,
)

PUBLISHED_DENSITY = 1.0
KEPT = 0.7  # as many blocks as PAG's target leaves pixels


class Block(nn.Module):
    """A dense residual bottleneck: relu(shortcut(x) + F(x)).

    Args:
        place: Where the block stands.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.branch = bottleneck(place)
        self.shortcut = shortcut(place)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        return F.relu(self.shortcut(x) + self.branch(x))


def truncated(depths: Sequence[int], kept: float) -> tuple[int, ...]:
    """Blocks per stage that remain: the share `kept` of each stage, rounded up."""
    return tuple(math.ceil(kept * depth) for depth in depths)


def resnet(
    depths: Sequence[int] = (2, 3), width: int = 8, *, kept: float = KEPT, classes: int = 10
) -> ResidualNet:
    """A settled network of which the last blocks of every stage are gone; small by default."""
    return seeded(
        lambda: ResidualNet(Block, truncated(depths, kept), width, classes),
        PUBLISHED_DENSITY,
        [example_images(4, 64)],
    )


def resnet50() -> ResidualNet:
    """A ResNet-50 of (3, 3, 5, 3) blocks instead of (3, 4, 6, 3)."""
    return resnet(RESNET_DEPTHS[50], 64, classes=1000)
