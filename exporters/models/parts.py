"""What the networks of the literature share: a residual skeleton, and gates that decide.

The weights are random. Two things make such a network worth compiling: every batch norm takes the
moments of what it really meets, so that activations keep their size at any depth, and every gate
takes the bias that gives its published density. `settle` does both in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
Net = TypeVar("Net", bound=nn.Module)
Size: TypeAlias = int | tuple[int, int]  # side of a square, or height and width


class Gate(nn.Module):
    """A module that decides; forward returns a mask, or one weight per branch."""

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """Change the bias (and the scale) of the score so that on `inputs` a share decides "run".

        Args:
            density: Wanted share of decisions for "run".
            inputs: What forward is about to get.
        """
        raise NotImplementedError


class Place(NamedTuple):
    """Where a residual block stands.

    Attributes:
        stage: Counted from 0.
        order: In the stage, from 0.
        channels: Of the input.
        width: Channels of the stage.
        stride: Of the block.
    """

    stage: int
    order: int
    channels: int
    width: int
    stride: int


class ResidualNet(nn.Module):
    """A residual classifier: stem, blocks, global average, linear layer.

    Args:
        block: Makes the block of a place; its output has `expansion` times the place's width.
        depths: Blocks per stage.
        width: Channels of the stem; stage s has width << s.
        classes: Number of classes.
        strides: Of the first block of every stage.
        expansion: Output channels of a block over its width.
    """

    def __init__(
        self,
        block: Callable[[Place], nn.Module],
        depths: Sequence[int],
        width: int = 64,
        classes: int = 1000,
        *,
        strides: Sequence[int] = (1, 2, 2, 2),
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.ModuleList()
        channels = width
        for stage, (depth, stride) in enumerate(zip(depths, strides[: len(depths)], strict=True)):
            for order in range(depth):
                place = Place(stage, order, channels, width << stage, 1 if order else stride)
                self.blocks.append(block(place))
                channels = expansion * place.width
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, classes), of images (N, 3, H, W)."""
        x = self.stem(image)  # (N, width, H/4, W/4)
        for block in self.blocks:
            x = block(x)
        return self.classify(x)

    def classify(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of the last features (N, C, H, W)."""
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def conv_bn(
    channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution without bias, "same" padding, and its batch norm."""
    return nn.Sequential(
        nn.Conv2d(
            channels,
            out,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out),
    )


def bottleneck(place: Place, expansion: int = 4) -> nn.Sequential:
    """The residual branch 1x1, 3x3 (with the stride), 1x1, each with its batch norm."""
    return nn.Sequential(
        *conv_bn(place.channels, place.width, 1),
        nn.ReLU(),
        *conv_bn(place.width, place.width, 3, place.stride),
        nn.ReLU(),
        *conv_bn(place.width, expansion * place.width, 1),
    )


def basic_block(place: Place) -> nn.Sequential:
    """The residual branch 3x3 (with the stride), 3x3, each with its batch norm."""
    return nn.Sequential(
        *conv_bn(place.channels, place.width, 3, place.stride),
        nn.ReLU(),
        *conv_bn(place.width, place.width, 3),
    )


def shortcut(place: Place, expansion: int = 4) -> nn.Module:
    """The identity, or a 1x1 convolution where the shape changes."""
    if place.stride == 1 and place.channels == expansion * place.width:
        return nn.Identity()
    return conv_bn(place.channels, expansion * place.width, 1, place.stride)


def both_sides(size: Size) -> tuple[int, int]:
    """Height and width, of these or of the side of a square."""
    return (size, size) if isinstance(size, int) else size


def example_images(count: int, size: Size, seed: int = 0) -> Tensor:
    """Random images in [0, 1], (count, 3, H, W): smooth, textured, each of its own tint."""
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator)
    size = both_sides(size)
    image = draw(count, 3, 1, 1).expand(-1, -1, *size)
    for cells in (3, 8, 21):
        field = draw(count, 3, cells, cells) * draw(count, 1, 1, 1).abs()
        image = image + F.interpolate(field, size, mode="bilinear", align_corners=False)
    return torch.sigmoid(image + 0.5 * draw(count, 3, *size))


def centre(score: Tensor, density: float) -> tuple[Tensor, Tensor]:
    """Scale and shift after which a share `density` of the scores is positive.

    The scale makes the scores' deviation 1, which keeps decisions away from ties.

    Args:
        score: Any shape; returns two tensors of shape ().
    """
    scale = 1 / score.std().clamp_min(1e-6)
    return scale, -torch.quantile(score.flatten(), 1 - density) * scale


@torch.no_grad()
def settle(model: Net, inputs: Sequence[Tensor], density: float, *, norms: bool = True) -> Net:
    """Let every batch norm and every gate fit what reaches it; leaves the model in eval mode.

    Args:
        model: Any module.
        inputs: What its forward takes, with a batch of several images.
        density: Wanted share of "run" decisions of every gate.
        norms: False only moves the gates.
    """
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and norms:
            module.weight.copy_(0.5 + torch.rand_like(module.weight))
            module.bias.copy_(0.2 * torch.randn_like(module.bias))
            hooks.append(module.register_forward_pre_hook(_take_moments))
        elif isinstance(module, Gate):
            hooks.append(module.register_forward_pre_hook(partial(_take_density, density)))
    model.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return model


def run_or_skip(
    decision: Tensor, run: Callable[[Tensor], Tensor], skip: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """run(x) or skip(x), of which only one is computed; exported, an If.

    Args:
        decision: Bool, one element: the batch has one image.
        run: What the block computes.
        skip: What it shows instead, of the same shape.
        x: The block's input, (1, C, H, W).
    """
    if torch.compiler.is_exporting():
        # The branches of a cond may not return their input itself, which an identity would.
        y: Tensor = torch.cond(decision.reshape(()), run, lambda x: skip(x).clone(), (x,))
        return y
    return run(x) if bool(decision) else skip(x)


def _take_moments(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    norm.running_var.copy_(inputs[0].var((0, 2, 3)).clamp_min(1e-4))


def _take_density(density: float, gate: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(gate, Gate)
    gate.set_density(density, *inputs)


def seeded(make: Callable[[], Net], density: float, inputs: Sequence[Tensor], seed: int = 0) -> Net:
    """Make a model with the seed's weights and settle it; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settle(make(), inputs, density)
