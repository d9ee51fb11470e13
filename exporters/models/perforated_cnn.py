"""PerforatedCNN: static masks, skipped outputs take the nearest computed one (arXiv 1504.08362).

A convolution that a pooling follows is evaluated at a fixed set of kept positions, the same for all
images and channels; every other output copies its nearest kept position (Euclidean; ties are broken
at random, so that the choice is an index array, made once). Kinds of masks, as in the official
code: `uniform` (random positions), `grid` (a jittered product grid), `structure` (positions that
many windows of the next pooling read) and `impact` (positions whose change would move the loss
most). Of H W positions, floor(rate H W) are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import conv_bn, example_images, seeded

PUBLISHED_DENSITY = 1 / 3  # of the searched rates 1, 1/1.5, 1/2, ... 1/20; the abstract: 2x to 4x
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
Mask = Callable[[int, int, float, torch.Generator], Tensor]


def uniform(height: int, width: int, rate: float, generator: torch.Generator) -> Tensor:
    """Kept positions at random: sorted flat indices, int64, (floor(rate H W),)."""
    return _highest(torch.rand(height, width, generator=generator), rate)


def grid(height: int, width: int, rate: float, generator: torch.Generator) -> Tensor:
    """A grid of ceil(size / n ((0 ... n-1) + u)) per axis, u in (0, 1): sorted flat indices, int64.

    The number kept is the product of the axes' n, about rate H W.
    """
    axes = []
    for size in (height, width):
        n = max(1, round(size * rate**0.5))
        phase = torch.rand((), generator=generator)
        axes.append(torch.ceil(size / n * (torch.arange(n) + phase)).long().clamp(1, size) - 1)
    return (axes[0][:, None] * width + axes[1]).flatten()


def structure(
    height: int,
    width: int,
    rate: float,
    generator: torch.Generator,
    *,
    kernel: int = 3,
    stride: int = 2,
) -> Tensor:
    """The positions that most pooling windows cover, noise breaks ties: sorted flat indices, int64.

    Args:
        height: H of the convolution's output.
        width: W of the convolution's output.
        rate: Share to keep.
        generator: Of the noise.
        kernel: Side of the pooling's windows.
        stride: Of the pooling.
    """
    cover = _coverage(height, kernel, stride)[:, None] * _coverage(width, kernel, stride)
    return _highest(cover + 1e-5 * torch.rand(height, width, generator=generator), rate)


def impact(activation: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """The positions where |x dL/dx|, averaged over images and summed over channels, is largest.

    Args:
        activation: The convolution's output x, (N, C, H, W).
        gradient: dL/dx, (N, C, H, W).
        rate: Share to keep.

    Returns:
        Sorted flat indices, int64, (floor(rate H W),).
    """
    return _highest((activation * gradient).abs().mean(0).sum(0), rate)


def nearest(kept: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """For each position the nearest kept one, as an index into `kept`, int64, (H W,).

    Args:
        kept: Sorted flat indices, int64, (P,).
        height: H.
        width: W.
        generator: Breaks ties.
    """
    rows, columns = kept // width, kept % width  # each (P,)
    chosen = []
    for row in range(height):
        reach, settled = 1, False
        while not settled:  # the nearest lies few rows away: H W x P distances would be too many
            candidates = ((rows - row).abs() <= reach).nonzero().flatten()  # (Q,)
            dy = rows[candidates] - row
            dx = torch.arange(width)[:, None] - columns[candidates]
            squared = (dy * dy + dx * dx).float()  # (W, Q)
            found = len(candidates) > 0 and bool(squared.amin(1).max() <= reach * reach)
            settled = found or reach >= height
            reach *= 2
        # Squared distances are integers: less than 1 of noise decides between equal ones only.
        noise = 0.5 * torch.rand(squared.shape, generator=generator)
        chosen.append(candidates[(squared + noise).argmin(1)])
    return torch.cat(chosen)


class Perforated(nn.Module):
    """A 3x3 convolution with ReLU at kept positions; the others copy the nearest.

    Args:
        channels: Input channels.
        out: Output channels.
        kept: Sorted flat indices of the positions to compute, int64, (P,).
        index: For each position an index into `kept`, int64, (H W,).
        im2col: Compute as the official Caffe layer does, columns of the kept positions times the
            weights; else everywhere, and copy after that. The result is the same.

    Raises:
        ValueError: in forward, the map has another number of positions than the index.
    """

    def __init__(
        self, channels: int, out: int, kept: Tensor, index: Tensor, *, im2col: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.im2col = im2col
        self.kept: Tensor
        self.index: Tensor
        self.register_buffer("kept", kept)
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, Co, H, W), for the H and W of the index."""
        batch, _, height, width = x.shape
        if height * width != len(self.index):
            raise ValueError(f"the index is for {len(self.index)} positions, got {height}x{width}")
        if self.im2col:
            columns = F.unfold(x, 3, padding=1).index_select(2, self.kept)  # (N, 9 C, P)
            assert self.conv.bias is not None
            y = self.conv.weight.flatten(1) @ columns + self.conv.bias[:, None]  # (N, Co, P)
            y = y.index_select(2, self.index)  # (N, Co, H W)
        else:
            y = self.conv(x).flatten(2).index_select(2, self.kept[self.index])  # (N, Co, H W)
        return F.relu(y.view(batch, -1, height, width))


class PerforatedVGG(nn.Module):
    """A VGG network whose last convolution before each pooling is perforated.

    Args:
        stages: Channels of the convolutions, by stage.
        size: Side of the images; the indices are made for it.
        classes: Number of classes.
        mask: Makes the kept positions.
        rate: Share to keep.
        im2col: See `Perforated`.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        size: int,
        classes: int,
        *,
        mask: Mask,
        rate: float,
        im2col: bool = False,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        layers: list[nn.Module] = []
        channels = 3
        for stage in stages:
            for out in stage[:-1]:
                layers += [*conv_bn(channels, out, 3), nn.ReLU()]
                channels = out
            kept = mask(size, size, rate, generator)
            index = nearest(kept, size, size, generator)
            layers.append(Perforated(channels, stage[-1], kept, index, im2col=im2col))
            layers.append(nn.MaxPool2d(3, 2, 1))
            channels, size = stage[-1], (size + 1) // 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, classes), of images (N, 3, size, size)."""
        logits: Tensor = self.head(self.features(image).mean((2, 3)))
        return logits


def vgg(
    stages: Sequence[Sequence[int]] = ((8, 8), (16, 16)),
    size: int = 64,
    *,
    mask: Mask = structure,
    rate: float = PUBLISHED_DENSITY,
    im2col: bool = False,
    classes: int = 10,
) -> PerforatedVGG:
    """A settled network; small by default."""
    return seeded(
        lambda: PerforatedVGG(stages, size, classes, mask=mask, rate=rate, im2col=im2col),
        rate,
        [example_images(2, size)],
    )


vgg16 = partial(vgg, VGG16, 224, classes=1000)


def perforate_by_impact(model: PerforatedVGG, image: Tensor, label: Tensor, rate: float) -> None:
    """Replace every mask by the one of largest impact on the cross entropy, in place.

    Args:
        model: In evaluation mode.
        image: (N, 3, size, size).
        label: int64, (N,).
        rate: Share to keep.
    """
    layers = [layer for layer in model.features if isinstance(layer, Perforated)]
    outputs: list[Tensor] = []
    hooks = [
        layer.conv.register_forward_hook(lambda _, __, output: outputs.append(output))
        for layer in layers
    ]
    loss = F.cross_entropy(model(image), label)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(loss, outputs)
    generator = torch.Generator().manual_seed(0)
    for layer, output, gradient in zip(layers, outputs, gradients, strict=True):
        height, width = output.shape[2:]
        layer.kept = impact(output.detach(), gradient, rate)
        layer.index = nearest(layer.kept, height, width, generator)


def _highest(weight: Tensor, rate: float) -> Tensor:
    count = max(1, int(rate * weight.numel()))
    return weight.flatten().topk(count).indices.sort().values


def _coverage(size: int, kernel: int, stride: int) -> Tensor:
    """How many pooling windows, of padding kernel // 2, cover each of `size` positions: (size,)."""
    last = (size + 2 * (kernel // 2) - kernel) // stride
    starts = stride * torch.arange(last + 1) - kernel // 2  # (windows,)
    offset = torch.arange(size)[:, None] - starts  # (size, windows)
    return ((offset >= 0) & (offset < kernel)).sum(1).float()
