"""DynConv: per-pixel execution masks (Verelst and Tuytelaars, CVPR 2020, arXiv 1912.03203).

A residual block runs only where its mask is set: relu(I + M F(I)), an inverted residual without
the last relu. The official code decides M = (score >= 0) in evaluation, so that a tie runs; the
score is a 3x3 convolution plus a linear layer on the global average for classification, a 1x1
convolution for pose. The first 1x1 of F is needed at every pixel that the 3x3 reads, which is M
dilated (`expand_mask`).
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
    centre,
    conv_bn,
    example_images,
    seeded,
    shortcut,
)

PUBLISHED_DENSITY = 0.5  # of the budgets of the official runs (0.25, 0.5, 0.75), the middle one
POSE_DENSITY = 0.25  # likewise, of 0.125, 0.25, 0.5


class MaskUnit(Gate):
    """M = (score >= 0): a tie runs.

    Args:
        channels: Channels of the block's input.
        stride: Of the block.
        pooled: Score = 3x3 convolution + linear layer of the global average (classification);
            False: a 1x1 convolution (pose).
    """

    def __init__(self, channels: int, stride: int = 1, *, pooled: bool = True) -> None:
        super().__init__()
        kernel = 3 if pooled else 1
        self.conv = nn.Conv2d(channels, 1, kernel, stride, padding=kernel // 2)
        self.fc = nn.Linear(channels, 1) if pooled else None

    def score(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H / stride, W / stride)."""
        z: Tensor = self.conv(x)  # (N, 1, H', W')
        if self.fc is not None:
            y = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # (N, 1)
            z = z + y.view(-1, 1, 1, 1).expand_as(z)
        return z

    def forward(self, x: Tensor) -> Tensor:
        """The mask of ones and zeros, (N, 1, H / stride, W / stride), float."""
        return (self.score(x) >= 0).float()

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`."""
        scale, shift = centre(self.score(*inputs), density)
        for parameter in self.parameters():
            parameter.mul_(scale)
        self.conv.bias.add_(shift)  # type: ignore[union-attr]


def expand_mask(mask: Tensor, stride: int = 1) -> Tensor:
    """Where the input of the 3x3 is read: `mask` at the input's resolution, dilated by 3x3.

    The official `ExpandMask`: zeros between the pixels, a convolution of ones, > 0.5.

    Args:
        mask: Ones and zeros, (N, 1, H, W), float; returns bool, (N, 1, stride H, stride W).
    """
    if stride > 1:
        corner = torch.zeros(1, 1, stride, stride)
        corner[0, 0, 0, 0] = 1
        mask = F.conv_transpose2d(mask, corner, stride=stride)  # (N, 1, stride H, stride W)
    return F.conv2d(mask, torch.ones(1, 1, 3, 3), padding=1) > 0.5


class Bottleneck(nn.Module):
    """relu(shortcut(I) + M F(I)) with F = 1x1, 3x3 (stride), 1x1.

    Args:
        place: Where the block stands.
        dilate: Also zero the first 1x1 outside the dilated mask, as the official sparse kernels
            leave it; the result is the same.
    """

    def __init__(self, place: Place, *, dilate: bool = False) -> None:
        super().__init__()
        self.stride, self.dilate = place.stride, dilate
        self.masker = MaskUnit(place.channels, place.stride)
        self.conv1 = conv_bn(place.channels, place.width, 1)
        self.conv2 = conv_bn(place.width, place.width, 3, place.stride)
        self.conv3 = conv_bn(place.width, 4 * place.width, 1)
        self.downsample = shortcut(place)

    def forward(self, block_input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        mask = self.masker(block_input)  # (N, 1, H', W')
        x = F.relu(self.conv1(block_input))  # (N, width, H, W)
        if self.dilate:
            x = x * expand_mask(mask, self.stride).float()
        x = F.relu(self.conv2(x))  # (N, width, H', W')
        x = self.conv3(x)  # (N, 4 width, H', W')
        return F.relu(self.downsample(block_input) + x * mask)


class InvertedResidual(nn.Module):
    """I + M F(I) with F = 1x1 to `expand` C, depthwise 3x3, linear 1x1; ReLU6 between.

    Only blocks that keep their shape are masked; the others are F(I), dense.

    Args:
        channels: Channels of I.
        out: Channels of the output.
        stride: Of the depthwise convolution.
        expand: Ratio of the hidden channels.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, expand: int = 6) -> None:
        super().__init__()
        hidden = expand * channels
        self.conv = nn.Sequential(
            *conv_bn(channels, hidden, 1),
            nn.ReLU6(),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *conv_bn(hidden, out, 1),
        )
        same = stride == 1 and channels == out
        self.masker = MaskUnit(channels, pooled=False) if same else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)  # (N, out, H', W')
        return y if self.masker is None else x + y * self.masker(x)


class Hourglass(nn.Module):
    """One hourglass: halve `depth` times, come back up, add the side branch at every level.

    Args:
        channels: C, of input and output.
        depth: Halvings.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.side = InvertedResidual(channels, channels)
        self.down = InvertedResidual(channels, channels)
        inner = Hourglass(channels, depth - 1) if depth > 1 else None
        self.inner = inner or InvertedResidual(channels, channels)
        self.up = InvertedResidual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); H and W are multiples of 2 ** depth."""
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2))))  # (N, C, H/2, W/2)
        high: Tensor = self.side(x) + F.interpolate(low, scale_factor=2.0, mode="nearest")
        return high


class PoseNet(nn.Module):
    """Stacked hourglasses of inverted residuals, as in the official pose code.

    Args:
        channels: Of the hourglasses.
        depth: Halvings per hourglass.
        stacks: Number of hourglasses.
        joints: Number of heat maps.
    """

    def __init__(self, channels: int, depth: int, stacks: int, joints: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, channels // 4, 7, 2), nn.ReLU())
        self.before = nn.Sequential(
            InvertedResidual(channels // 4, channels // 2),
            nn.MaxPool2d(2),
            InvertedResidual(channels // 2, channels),
            InvertedResidual(channels, channels),
        )
        self.stacks = nn.ModuleList()
        self.scores = nn.ModuleList(nn.Conv2d(channels, joints, 1) for _ in range(stacks))
        self.back = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.score_back = nn.ModuleList(nn.Conv2d(joints, channels, 1) for _ in range(stacks - 1))
        for _ in range(stacks):
            self.stacks.append(
                nn.Sequential(
                    Hourglass(channels, depth),
                    InvertedResidual(channels, channels),
                    *conv_bn(channels, channels, 1),
                    nn.ReLU(),
                )
            )

    def forward(self, image: Tensor) -> Tensor:
        """Heat maps of the last stack, (N, joints, H/4, W/4), of images (N, 3, H, W)."""
        x = self.before(self.stem(image))  # (N, channels, H/4, W/4)
        for index in range(len(self.stacks) - 1):
            y = self.stacks[index](x)  # (N, channels, H/4, W/4)
            x = x + self.back[index](y) + self.score_back[index](self.scores[index](y))
        heat: Tensor = self.scores[-1](self.stacks[-1](x))
        return heat


def resnet(
    depths: Sequence[int] = (1, 1), width: int = 8, *, classes: int = 10, dilate: bool = False
) -> ResidualNet:
    """A settled masked residual network; small by default."""
    return seeded(
        lambda: ResidualNet(lambda place: Bottleneck(place, dilate=dilate), depths, width, classes),
        PUBLISHED_DENSITY,
        [example_images(8, 64)],
    )


def resnet101() -> ResidualNet:
    """The published ResNet-101: 33 gates."""
    return resnet(RESNET_DEPTHS[101], 64, classes=1000)


def hourglass(channels: int = 16, depth: int = 2, stacks: int = 1, *, size: int = 64) -> PoseNet:
    """A settled pose network; small by default.

    Args:
        channels: Of the hourglasses.
        depth: Halvings per hourglass.
        stacks: Number of hourglasses.
        size: Side of the images that it is settled on. The norms of the smallest maps, of side
            size / 2 ** (depth + 2), need more than a pixel, or they magnify every rounding.
    """
    images = [example_images(8, size)]
    return seeded(lambda: PoseNet(channels, depth, stacks), POSE_DENSITY, images)


def pose_hourglass() -> PoseNet:
    """The published pose network: four hourglasses of depth 4, 57 gates."""
    return hourglass(96, 4, 4, size=256)
