"""LASNet and LAUDNet: blocks gated per patch, or per image (arXiv 2210.06223, 2308.15949).

The masker pools the block's input to one value per S x S patch of the block's output, and a 1x1
convolution gives two scores; the block runs where m0 >= m1, so that channel 0 means "run" and a tie
runs. The coarse mask is upsampled to the output by nearest, and relu(I + M F(I)) results. With
granularity "layer" the masker pools to one value per image. The official code bakes the size of the
maps into the blocks; so does `input_size`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import (
    RESNET_DEPTHS,
    Gate,
    Place,
    ResidualNet,
    bottleneck,
    centre,
    example_images,
    seeded,
    shortcut,
)

PUBLISHED_DENSITY = 0.52  # LAUD-spatial ResNet-101, granularity 4-4-2-1, the middle of its points
LAYER = 0  # the granularity "one decision per image"


class SpatialMasker(Gate):
    """The coarse mask m0 >= m1.

    Args:
        channels: Channels of the block's input.
        size: Side of the coarse mask; 1 decides for the whole image.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels, 2, 1)

    def score(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2, size, size)."""
        if self.size < x.shape[2]:
            x = F.adaptive_avg_pool2d(x, self.size)
        scores: Tensor = self.conv(x)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """The coarse mask of ones and zeros, (N, 1, size, size), float."""
        scores = self.score(x)
        batch, channels, height, width = scores.shape
        pair = scores.view(batch, 2, channels // 2, height, width)
        return (pair[:, 0] >= pair[:, 1]).float()

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`."""
        scores = self.score(*inputs)  # (N, 2, size, size)
        scale, shift = centre(scores[:, 0] - scores[:, 1], density)
        assert self.conv.bias is not None
        self.conv.weight.mul_(scale)
        self.conv.bias.mul_(scale)
        self.conv.bias[0] += shift


class Bottleneck(nn.Module):
    """relu(shortcut(I) + M F(I)), M a nearest upsampling of the coarse mask.

    Args:
        place: Where the block stands.
        output_size: Side of the block's output.
        granularity: Side S of a patch of the output; LAYER decides per image.

    Raises:
        ValueError: in forward, the output is of another size.
    """

    def __init__(self, place: Place, output_size: int, granularity: int) -> None:
        super().__init__()
        self.output_size = output_size
        size = 1 if granularity == LAYER else output_size // granularity
        self.masker = SpatialMasker(place.channels, size)
        self.branch = bottleneck(place)
        self.downsample = shortcut(place)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        y = self.branch(x)  # (N, 4 width, H', W')
        if (y.shape[2], y.shape[3]) != (self.output_size, self.output_size):
            raise ValueError(
                f"the block is made for maps of side {self.output_size}, got {tuple(y.shape[2:])}"
            )
        coarse = self.masker(x)  # (N, 1, size, size)
        mask = F.interpolate(coarse, size=self.output_size, mode="nearest")  # (N, 1, H', W')
        return F.relu(y * mask + self.downsample(x))


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    granularity: Sequence[int] = (4, 2),
    input_size: int = 64,
    classes: int = 10,
) -> ResidualNet:
    """A settled network; small by default.

    Args:
        depths: Blocks per stage.
        width: Channels of the stem.
        granularity: Of each stage: the side of a patch, or LAYER.
        input_size: Side of the images, a multiple of 32.
        classes: Number of classes.
    """

    def block(place: Place) -> nn.Module:
        size = input_size // (4 << place.stage)
        return Bottleneck(place, size, granularity[place.stage])

    return seeded(
        lambda: ResidualNet(block, depths, width, classes),
        PUBLISHED_DENSITY,
        [example_images(8, input_size)],
    )


def layer() -> ResidualNet:
    """The small network with one decision per block and image."""
    return resnet(granularity=(LAYER, LAYER))


def resnet101() -> ResidualNet:
    """The published LAUD-spatial ResNet-101 at granularity 4-4-2-1: 33 gates."""
    return resnet(RESNET_DEPTHS[101], 64, granularity=(4, 4, 2, 1), input_size=224, classes=1000)


def layer101() -> ResidualNet:
    """The published LAUD-layer ResNet-101: 33 gates, each per image."""
    return resnet(RESNET_DEPTHS[101], 64, granularity=[LAYER] * 4, input_size=224, classes=1000)
