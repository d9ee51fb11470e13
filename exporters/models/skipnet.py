"""SkipNet: a recurrent gate skips residual blocks per image (ECCV 2018, arXiv 1711.09485).

One LSTM, shared by all gates, reads the pooled output of each block and decides whether the next
block runs: p > 0.5, so that a tie skips. A block that is skipped shows its input, through the
block's own shortcut convolution where the shape changes. The first block always runs. The official
code leaves the straight-through residue (hard - p) + p in evaluation; `residue` keeps it.
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

PUBLISHED_DENSITY = 0.7  # ResNet-101 with reinforcement: 29.9 % fewer FLOPs
HIDDEN = 10  # of the embedding and of the LSTM


class Block(nn.Module):
    """A plain residual block: relu(ds(x) + F(x)).

    Args:
        place: Where the block stands.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.branch = bottleneck(place)
        self.ds = shortcut(place)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        return F.relu(self.ds(x) + self.branch(x))


class Controller(Gate):
    """The LSTM and the projection to one score that all gates share."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(HIDDEN, HIDDEN)
        self.proj = nn.Conv2d(HIDDEN, 1, 1)
        self.seen: list[Tensor] = []  # hidden states of all steps, while the density is set

    def forward(self, feature: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next block's score (N, 1, 1, 1) and the new states, each (1, N, 10).

        Args:
            feature: Embedding of a block's output, (N, 10).
            h: Hidden state, (1, N, 10).
            c: Cell state, (1, N, 10).
        """
        out, (h, c) = self.rnn(feature.view(1, -1, HIDDEN), (h, c))  # (1, N, 10)
        return self.proj(out.view(-1, HIDDEN, 1, 1)), h, c

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`; the share is that of all steps so far, for the score is one and the same."""
        feature, h, c = inputs
        if not h.any():
            self.seen.clear()
        self.seen.append(self.rnn(feature.view(1, -1, HIDDEN), (h, c))[0].view(-1, HIDDEN, 1, 1))
        scale, shift = centre(self.proj(torch.cat(self.seen)), density)
        assert self.proj.bias is not None
        self.proj.weight.mul_(scale)
        self.proj.bias.copy_(self.proj.bias * scale + shift)


class RecurrentGate(Gate):
    """Embeds a block's output and lets the controller decide on the next block.

    Args:
        channels: Channels of the block's output.
        controller: Shared by all gates.
        residue: Keep the straight-through estimator's (hard - p) + p.
    """

    def __init__(self, channels: int, controller: Controller, *, residue: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, HIDDEN, 1)
        self.controller = controller
        self.residue = residue

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mask of ones and zeros, (N, 1, 1, 1), float, and the controller's states."""
        feature = self.embed(F.adaptive_avg_pool2d(x, 1)).flatten(1)  # (N, 10)
        score, h, c = self.controller(feature, h, c)
        p = torch.sigmoid(score)  # (N, 1, 1, 1)
        hard = (p > 0.5).float()
        return hard.detach() - p.detach() + p if self.residue else hard, h, c

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """Spread the embedding over the images; the density itself is the controller's."""
        feature = self.embed(F.adaptive_avg_pool2d(inputs[0], 1))  # (N, 10, 1, 1)
        deviation, mean = torch.std_mean(feature, 0)  # each (10, 1, 1)
        gain = 2 / deviation.flatten().clamp_min(1e-6)
        assert self.embed.bias is not None
        self.embed.weight.mul_(gain.view(-1, 1, 1, 1))
        self.embed.bias.copy_((self.embed.bias - mean.flatten()) * gain)


class SkipNet(ResidualNet):
    """A ResNet whose blocks, but the first, are skipped per image.

    Args:
        depths: Blocks per stage.
        width: Channels of the stem.
        classes: Number of classes.
        residue: See `RecurrentGate`.

    Attributes:
        one_image: Compute only what runs, for a batch of one image.
    """

    def __init__(
        self, depths: Sequence[int], width: int, classes: int, *, residue: bool = True
    ) -> None:
        super().__init__(Block, depths, width, classes)
        self.one_image = False
        self.controller = Controller()
        outputs = [4 * width << stage for stage, depth in enumerate(depths) for _ in range(depth)]
        self.gates = nn.ModuleList(
            RecurrentGate(channels, self.controller, residue=residue) for channels in outputs[:-1]
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, classes), of images (N, 3, H, W)."""
        x = self.blocks[0](self.stem(image))  # (N, C, H, W)
        h = c = torch.zeros(1, image.shape[0], HIDDEN)
        for block, gate in zip(list(self.blocks)[1:], self.gates, strict=True):
            assert isinstance(block, Block)
            mask, h, c = gate(x, h, c)
            if self.one_image:
                x = run_or_skip(mask > 0.5, block, block.ds, x)
                continue
            previous = block.ds(x)  # (N, C, H, W)
            y = F.relu(previous + block.branch(x))  # (N, C, H, W)
            x = mask.expand_as(y) * y + (1 - mask).expand_as(previous) * previous
        return self.classify(x)


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    classes: int = 10,
    residue: bool = True,
    one_image: bool = False,
) -> SkipNet:
    """A settled network; small by default."""
    model = seeded(
        lambda: SkipNet(depths, width, classes, residue=residue),
        PUBLISHED_DENSITY,
        [example_images(32, 64)],
    )
    model.one_image = one_image
    return model


def resnet101() -> SkipNet:
    """The published ResNet-101: 32 gates."""
    return resnet(RESNET_DEPTHS[101], 64, classes=1000)
