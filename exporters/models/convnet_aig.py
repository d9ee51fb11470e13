"""ConvNet-AIG: each residual block decides per image whether it runs (ECCV 2018, arXiv 1711.11503).

relu(shortcut(x) + w F(x)) with w in {0, 1} per image: global average, 1x1 to 16, batch norm, ReLU,
1x1 to two scores, hard Gumbel-softmax; score 1 is "run". The official code samples the noise in
evaluation too, with the straight-through residue (hard - soft) + soft; `noise` keeps that. Without
it the decision is the argmax, and a tie skips.
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
    bottleneck,
    centre,
    example_images,
    run_or_skip,
    seeded,
    shortcut,
)

PUBLISHED_DENSITY = 0.62  # the abstract: ResNet-101 with 38 % less computation


class ImageGate(Gate):
    """The one-hot decision of a block per image.

    Args:
        channels: Channels of the block's input.
        noise: Sample Gumbel noise in evaluation, as the official code does.
    """

    def __init__(self, channels: int, *, noise: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 16, 1)
        self.fc1bn = nn.BatchNorm2d(16)
        self.fc2 = nn.Conv2d(16, 2, 1)
        self.noise = noise

    def score(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2, 1, 1)."""
        pooled = F.adaptive_avg_pool2d(x, 1)  # (N, C, 1, 1)
        scores: Tensor = self.fc2(F.relu(self.fc1bn(self.fc1(pooled))))
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """The one-hot weights of "skip" and "run", (N, 2, 1, 1), float."""
        scores = self.score(x)
        if self.noise:
            uniform = torch.rand_like(scores)
            scores = scores - torch.log(1e-10 - torch.log(uniform + 1e-10))
        soft = scores.softmax(1)
        hard = torch.zeros_like(soft).scatter_(1, soft.max(1, keepdim=True)[1], 1.0)
        return (hard - soft.detach()) + soft if self.noise else hard

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`."""
        scores = self.score(*inputs)  # (N, 2, 1, 1)
        scale, shift = centre(scores[:, 1] - scores[:, 0], density)
        assert self.fc2.bias is not None
        self.fc2.weight.mul_(scale)
        self.fc2.bias.mul_(scale)
        self.fc2.bias[1] += shift


class Bottleneck(nn.Module):
    """relu(shortcut(x) + w F(x)), w decided from x for the whole image.

    Args:
        place: Where the block stands.
        noise: See `ImageGate`.

    Attributes:
        one_image: Compute only what runs, for a batch of one image.
    """

    def __init__(self, place: Place, *, noise: bool = False) -> None:
        super().__init__()
        self.gate = ImageGate(place.channels, noise=noise)
        self.branch = bottleneck(place)
        self.shortcut = shortcut(place)
        self.one_image = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        w = self.gate(x)  # (N, 2, 1, 1)
        if self.one_image:
            return run_or_skip(w[:, 1] > 0.5, self.run, self.skip, x)
        return F.relu(self.shortcut(x) + self.branch(x) * w[:, 1].unsqueeze(1))

    def run(self, x: Tensor) -> Tensor:
        """relu(shortcut(x) + F(x)); shapes as in forward."""
        return F.relu(self.shortcut(x) + self.branch(x))

    def skip(self, x: Tensor) -> Tensor:
        """relu(shortcut(x)); shapes as in forward."""
        return F.relu(self.shortcut(x))


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    classes: int = 10,
    noise: bool = False,
    one_image: bool = False,
) -> ResidualNet:
    """A settled network with one gate per block; small by default."""
    model = seeded(
        lambda: ResidualNet(lambda place: Bottleneck(place, noise=noise), depths, width, classes),
        PUBLISHED_DENSITY,
        [example_images(32, 64)],
    )
    for block in model.blocks:
        assert isinstance(block, Bottleneck)
        block.one_image = one_image
    return model


def resnet101() -> ResidualNet:
    """The published ResNet-101: 33 gates."""
    return resnet(RESNET_DEPTHS[101], 64, classes=1000)
