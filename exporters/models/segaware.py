"""Segmentation-aware convolution (Harley et al., ICCV 2017, arXiv 1708.04607).

An embedding e(p) per pixel is near for pixels of one segment; each neighbour q of a window counts
by its distance d(p, q) to the centre p. The official code has three forms:

    plain        y(p) = b + sum_q W(q - p) exp(-|lambda| d(p, q)) x(q)        (not normalised)
    normalised   the weights are softmax_q(-lambda d(p, q))                   (they sum to 1)
    bilateral    no W: sum_q w x / (sum_q w + 1e-4), w = exp(-lambda d)       (smooths scores)

d is sum |e(p) - e(q)| or 0.5 sum (e(p) - e(q))^2. A neighbour outside the image has distance 0,
hence weight 1 on a zero, unless it is removed by a huge distance. Every weight is used: nothing is
gated, and nothing may be skipped. `ours` is a network of our own modules, one op a call; the others
are written out as the authors did.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters import seg_aware
from pagdeploy.exporters.models.parts import conv_bn, example_images, seeded

PUBLISHED_DENSITY = 1.0
FAR = torch.finfo(torch.float32).max / 100  # the official distance of what is removed
BILATERAL_LAMBDA, BILATERAL_KERNEL = 50.0, 9
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def embedding_distance(
    embedding: Tensor,
    kernel: int,
    dilation: int = 1,
    *,
    norm: int = 1,
    remove_bounds: bool = False,
    remove_center: bool = False,
) -> Tensor:
    """Distances of each pixel's window to its centre, (N, K K, H, W): the official `Im2dist`.

    Args:
        embedding: (N, E, H, W).
        kernel: K, odd.
        dilation: Between the window's pixels.
        norm: 1: sum of |difference|; 2: half the sum of squares.
        remove_bounds: Neighbours outside the image are far, instead of at distance 0.
        remove_center: The centre itself is far.
    """
    batch, channels, height, width = embedding.shape
    padding = dilation * (kernel // 2)
    window = F.unfold(embedding, kernel, dilation, padding)  # (N, E K K, H W)
    window = window.view(batch, channels, kernel * kernel, height, width)
    difference = window - embedding.unsqueeze(2)  # (N, E, K K, H, W)
    if norm == 1:
        distance = difference.abs().sum(1)  # (N, K K, H, W)
    else:
        distance = 0.5 * (difference * difference).sum(1)
    inside = F.unfold(torch.ones(1, 1, height, width), kernel, dilation, padding)
    inside = inside.view(1, kernel * kernel, height, width) > 0.5
    outside = FAR if remove_bounds else 0.0
    distance = torch.where(inside, distance, torch.full_like(distance, outside))
    if remove_center:
        center = (torch.arange(kernel * kernel) == kernel * kernel // 2).view(1, -1, 1, 1)
        distance = torch.where(center, torch.full_like(distance, FAR), distance)
    return distance


class SegAwareConv2d(nn.Conv2d):
    """A convolution whose window is weighted by embedding distances; "same" padding.

    Args:
        channels: C.
        out: Co.
        kernel: K, odd.
        dilation: Between the window's pixels.
        normalized: Softmax weights instead of exponentials.
        scale: The learned lambda, shape (); shared by layers if the same parameter is given.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 3,
        dilation: int = 1,
        *,
        normalized: bool = False,
        scale: nn.Parameter | None = None,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, out, kernel, padding=padding, dilation=dilation)
        self.normalized = normalized
        if scale is None:
            scale = nn.Parameter(torch.tensor(0.1))  # the official initial value
        self.scale = scale

    def weights(self, distance: Tensor) -> Tensor:
        """Of each neighbour, from distances (N, K K, H, W); the same shape."""
        if self.normalized:
            return (-self.scale * distance).softmax(1)
        return torch.exp(-self.scale.abs() * distance)

    def forward(self, x: Tensor, distance: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) -> (N, Co, H, W).

        Args:
            x: The input.
            distance: See `embedding_distance`, (N, K K, H, W).
        """
        batch, channels, height, width = x.shape
        assert not isinstance(self.padding, str)
        window = F.unfold(x, self.kernel_size, self.dilation, self.padding)  # (N, C K K, H W)
        window = window.view(batch, channels, -1, height, width)  # (N, C, K K, H, W)
        weighted = window * self.weights(distance).unsqueeze(1)
        columns = weighted.flatten(1, 2).flatten(2)  # (N, C K K, H W)
        y = self.weight.flatten(1) @ columns  # (N, Co, H W)
        assert self.bias is not None
        return y.view(batch, -1, height, width) + self.bias[:, None, None]


def bilateral_filter(x: Tensor, embedding: Tensor) -> Tensor:
    """Smooth x within segments by a 9x9 window at lambda 50.

    Neighbours outside the image are removed, so that a constant x stays; the official setting of
    that switch is doubtful.

    Args:
        x: (N, C, H, W); the result has its shape.
        embedding: (N, E, H, W).
    """
    kernel, (batch, channels, height, width) = BILATERAL_KERNEL, x.shape
    distance = embedding_distance(embedding, kernel, remove_bounds=True)
    weights = torch.exp(-BILATERAL_LAMBDA * distance).unsqueeze(1)  # (N, 1, K K, H, W)
    window = F.unfold(x, kernel, padding=kernel // 2)  # (N, C K K, H W)
    window = window.view(batch, channels, -1, height, width)  # (N, C, K K, H, W)
    return (window * weights).sum(2) / (weights.sum(2) + 1e-4)


class SegAwareNet(nn.Module):
    """A VGG whose 3x3s may be segmentation-aware, and a bilateral filter on the class scores.

    The embedding comes from a small tower on the image; the official one joins features of all
    stages of a second VGG.

    Args:
        stages: Channels of the convolutions, by stage; all but the last are followed by a pooling.
        classes: Number of classes.
        form: "plain" or "normalised" convolutions; "bilateral" has ordinary ones, and the filter
            alone.
        embedding: Channels of the embedding.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        classes: int,
        *,
        form: str = "plain",
        embedding: int = 64,
    ) -> None:
        super().__init__()
        self.form = form
        self.embed = nn.Sequential(
            *conv_bn(3, embedding, 3), nn.ReLU(), nn.Conv2d(embedding, embedding, 3, padding=1)
        )
        self.stages, self.norms = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for stage in stages:
            scale = nn.Parameter(torch.tensor(0.1))  # one per resolution
            sizes = [channels, *stage]
            self.stages.append(
                nn.ModuleList(
                    self.conv(before, out, form, scale) for before, out in itertools.pairwise(sizes)
                )
            )
            self.norms.append(nn.ModuleList(nn.BatchNorm2d(out) for out in stage))
            channels = sizes[-1]
        self.head = nn.Conv2d(channels, classes, 1)

    def conv(self, channels: int, out: int, form: str, scale: nn.Parameter) -> nn.Conv2d:
        """A 3x3 of one of the forms."""
        if form == "bilateral":
            return nn.Conv2d(channels, out, 3, padding=1)
        return SegAwareConv2d(channels, out, normalized=form == "normalised", scale=scale)

    def nearness(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """What the 3x3s of one resolution take beside their input, from (N, E, H, W)."""
        if self.form == "bilateral":
            return ()
        return (embedding_distance(embedding, 3),)  # (N, 9, H, W)

    def smooth(self, scores: Tensor, embedding: Tensor) -> Tensor:
        """See `bilateral_filter`."""
        return bilateral_filter(scores, embedding)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (N, classes, H/2, W/2), of images (N, 3, H, W)."""
        full: Tensor = self.embed(image)  # (N, E, H, W)
        x = image
        for index, (convs, norms) in enumerate(zip(self.stages, self.norms, strict=True)):
            if index:
                x = F.max_pool2d(x, 3, 2, 1)
            embedding = F.interpolate(full, size=x.shape[2:], mode="bilinear", align_corners=False)
            near = self.nearness(embedding)
            assert isinstance(convs, nn.ModuleList) and isinstance(norms, nn.ModuleList)
            for conv, norm in zip(convs, norms, strict=True):
                x = F.relu(norm(conv(x, *near)))
        half = [(size + 1) // 2 for size in image.shape[2:]]
        scores = F.interpolate(self.head(x), size=half, mode="bilinear", align_corners=False)
        embedding = F.interpolate(full, size=half, mode="bilinear", align_corners=False)
        for _ in range(2):
            scores = self.smooth(scores, embedding)
        return scores


class OurSegAwareNet(SegAwareNet):
    """The same network of our own modules, the first stage plain and the others normalised."""

    def __init__(self, stages: Sequence[Sequence[int]], classes: int, embedding: int) -> None:
        super().__init__(stages, classes, embedding=embedding)
        self.filter = seg_aware.BilateralFilter2d(classes, BILATERAL_KERNEL)

    def conv(self, channels: int, out: int, form: str, scale: nn.Parameter) -> nn.Conv2d:
        """A 3x3 of the stage that is being made."""
        stage = "none" if not len(self.norms) else "softmax"
        return seg_aware.SegAwareConv2d(
            channels, out, 3, padding=1, normalization=stage, hardness=scale
        )

    def nearness(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """The embedding itself: the op computes the distances."""
        return (embedding,)

    def smooth(self, scores: Tensor, embedding: Tensor) -> Tensor:
        """See `bilateral_filter`."""
        y: Tensor = self.filter(scores, embedding)
        return y


def vgg(
    stages: Sequence[Sequence[int]] = ((8, 8), (16,)),
    *,
    classes: int = 5,
    form: str = "plain",
    embedding: int = 8,
) -> SegAwareNet:
    """A settled network; small by default."""
    return seeded(
        lambda: SegAwareNet(stages, classes, form=form, embedding=embedding),
        PUBLISHED_DENSITY,
        [example_images(2, 32)],
    )


def normalized() -> SegAwareNet:
    """The small network with softmax weights."""
    return vgg(form="normalised")


def bilateral() -> SegAwareNet:
    """The small network with ordinary convolutions; the filter alone sees the embedding."""
    return vgg(form="bilateral")


def ours() -> SegAwareNet:
    """A small network of our own modules, with all three forms."""
    return seeded(
        lambda: OurSegAwareNet(((8, 8), (16,)), 5, 8), PUBLISHED_DENSITY, [example_images(2, 32)]
    )


def vgg16() -> SegAwareNet:
    """VGG-16 with plain segmentation-aware convolutions, 21 classes (PASCAL VOC)."""
    return vgg(VGG16, classes=21, embedding=64)


def normalized16() -> SegAwareNet:
    """VGG-16 with normalised segmentation-aware convolutions, 21 classes."""
    return vgg(VGG16, classes=21, form="normalised", embedding=64)


def bilateral16() -> SegAwareNet:
    """VGG-16 with ordinary convolutions and the filter on its scores, 21 classes."""
    return vgg(VGG16, classes=21, form="bilateral", embedding=64)
