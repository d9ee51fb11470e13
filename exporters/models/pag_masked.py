"""PAG networks as other people write them: plain PyTorch masks (arXiv 1805.01556, WACV 2019).

The gate is decided from the block's input I by a 1x1 convolution to two scores, softmax, argmax and
one-hot; score 0 is "pass" and 1 "compute", so that a tie passes (the official MATLAB `max` returns
the first index). Two readings of the paper's gated block exist, and they differ at every pixel that
is not selected:

    convolution   Y = (1 - G) X + G relu(bn(conv3x3(X))), O = relu(shortcut(I) + bn(conv1x1(Y)))
    residual      O = relu(shortcut(I) + G F(I))

The first is what the official code computes; the second is what loose summaries describe. Stride 8:
the last two stages are dilated, and the stride sits on the first 1x1, so that X and F(X) are equal
in size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.multi_pool import RELEASED, STAGE_DILATIONS, STRIDES, Block
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

PUBLISHED_DENSITY = 0.7  # the target of the official demo; its released maps have 0.69


class PixelGate(Gate):
    """One-hot decision between two branches per pixel: argmax of softmax, a tie passes.

    Args:
        channels: Channels of the block's input.
        stride: Of the scores.
        blur: The official optional "GaussBlur": a 3x3 box of 1/9 on the scores, zero padding.
        soft: The plain softmax of the published insert functions, without a decision.
    """

    def __init__(
        self, channels: int, stride: int = 1, *, blur: bool = False, soft: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 1, stride)
        self.blur = blur
        self.soft = soft

    def score(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2, H / stride, W / stride)."""
        scores: Tensor = self.conv(x)  # (N, 2, H', W')
        return F.avg_pool2d(scores, 3, stride=1, padding=1) if self.blur else scores

    def forward(self, x: Tensor) -> Tensor:
        """The weights of "pass" and "compute", (N, 2, H / stride, W / stride), float."""
        probabilities = self.score(x).softmax(1)  # (N, 2, H', W')
        if self.soft:
            return probabilities
        one_hot = F.one_hot(probabilities.argmax(1), 2)  # (N, H', W', 2)
        return one_hot.permute(0, 3, 1, 2).float()

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`."""
        scores = self.score(*inputs)  # (N, 2, H', W')
        scale, shift = centre(scores[:, 1] - scores[:, 0], density)
        assert self.conv.bias is not None
        self.conv.weight.mul_(scale)
        self.conv.bias.mul_(scale)
        self.conv.bias[1] += shift


class Bottleneck(nn.Module):
    """A bottleneck whose 3x3, or whose whole residual branch, is gated per pixel.

    Args:
        place: Where the block stands.
        reading: "convolution" or "residual"; see the module.
        dilation: Of the 3x3.
        blur: See `PixelGate`.
        soft: See `PixelGate`.
    """

    def __init__(
        self,
        place: Place,
        *,
        reading: str,
        dilation: int = 1,
        blur: bool = False,
        soft: bool = False,
    ) -> None:
        super().__init__()
        self.reading = reading
        self.gate = PixelGate(place.channels, place.stride, blur=blur, soft=soft)
        self.conv1 = conv_bn(place.channels, place.width, 1, place.stride)
        self.conv2 = conv_bn(place.width, place.width, 3, dilation=dilation)
        self.conv3 = conv_bn(place.width, 4 * place.width, 1)
        self.shortcut = shortcut(place)

    def forward(self, block_input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        weights = self.gate(block_input)  # (N, 2, H', W')
        passing, computing = weights[:, 0:1], weights[:, 1:2]  # each (N, 1, H', W')
        x = F.relu(self.conv1(block_input))  # (N, width, H', W')
        y = F.relu(self.conv2(x))  # (N, width, H', W')
        if self.reading == "convolution":
            branch = self.conv3(passing * x + computing * y)  # (N, 4 width, H', W')
        else:
            branch = computing * self.conv3(y)  # (N, 4 width, H', W')
        return F.relu(self.shortcut(block_input) + branch)


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    reading: str = "convolution",
    blur: bool = False,
    soft: bool = False,
    multi_pool: bool = False,
    classes: int = 10,
) -> ResidualNet:
    """A settled network with one gate per block; small by default.

    Args:
        depths: Blocks per stage.
        width: Channels of the stem.
        reading: See `Bottleneck`.
        blur: See `PixelGate`.
        soft: See `PixelGate`.
        multi_pool: The second last block has the released MultiPool instead of a gate.
        classes: Number of classes.

    Raises:
        ValueError: the reading is another than "convolution" and "residual".
    """
    if reading not in ("convolution", "residual"):
        raise ValueError(f"reading {reading!r} is neither 'convolution' nor 'residual'")

    def block(place: Place) -> nn.Module:
        if multi_pool and (place.stage, place.order) == (len(depths) - 1, depths[-1] - 2):
            return Block(place, RELEASED, tied=False, soft=False)
        dilation = STAGE_DILATIONS[place.stage]
        return Bottleneck(place, reading=reading, dilation=dilation, blur=blur, soft=soft)

    return seeded(
        lambda: ResidualNet(block, depths, width, classes, strides=STRIDES),
        PUBLISHED_DENSITY,
        [example_images(8, 64)],
    )


def resnet50() -> ResidualNet:
    """The released ResNet-50: 15 gated blocks, and the seven-way MultiPool at res5_2."""
    return resnet(RESNET_DEPTHS[50], 64, multi_pool=True, classes=1000)


def residual() -> ResidualNet:
    """The small network in the residual reading."""
    return resnet(reading="residual")


def residual50() -> ResidualNet:
    """ResNet-50 in the residual reading: 16 gated blocks."""
    return resnet(RESNET_DEPTHS[50], 64, reading="residual", classes=1000)
