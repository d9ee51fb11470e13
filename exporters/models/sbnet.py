"""SBNet: residual blocks on the active blocks of a given mask (Ren et al., CVPR 2018, 1801.02108).

The mask comes from outside (a road map, a cheaper network). `reduce_mask` pools it to blocks, by
maximum or average, and a block is active where the pooled value exceeds a tolerance, so that a tie
rests. Active blocks are gathered with a halo, a residual unit runs on each, and the results are
scattered over the input. The same function at full size, which is written here: x + B F(x), B the
block mask upsampled by nearest. It differs from the official kernels only at the image's border,
where a gathered block is padded with zeros before the first 1x1 instead of before the 3x3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import Size, both_sides, conv_bn, example_images, seeded

PUBLISHED_DENSITY = 0.3  # of the benchmarks' range of 0.01 to 0.5


def reduce_mask(mask: Tensor, block: int, *, average: bool, tolerance: float) -> Tensor:
    """The blocks that are active: pooled mask > tolerance.

    Args:
        mask: (N, 1, H, W), float in [0, 1].
        block: Side of a block; the last ones may stick out.
        average: Pool by average, else by maximum.
        tolerance: What the pooled value must exceed.

    Returns:
        Bool, (N, 1, ceil(H / block), ceil(W / block)).
    """
    if average:
        pooled = F.avg_pool2d(mask, block, ceil_mode=True)
    else:
        pooled = F.max_pool2d(mask, block, ceil_mode=True)
    return pooled > tolerance


class Unit(nn.Module):
    """x + B F(x) with F = 1x1, 3x3, 1x1, each with batch norm and a ReLU between.

    Args:
        channels: C, of input and output.
        width: Channels between.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn(channels, width, 1),
            nn.ReLU(),
            *conv_bn(width, width, 3),
            nn.ReLU(),
            *conv_bn(width, channels, 1),
        )

    def forward(self, x: Tensor, active: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W).

        Args:
            x: The input.
            active: Bool, (N, 1, H, W).
        """
        return torch.where(active, x + self.branch(x), x)


class SBNet(nn.Module):
    """A stem, stages of masked residual units, and a dense head.

    Args:
        units: Units per stage; every stage halves the maps.
        width: Channels of the first stage's 3x3; it doubles.
        block: Side of a block, in pixels of the stage's maps.
        average: See `reduce_mask`.
        tolerance: See `reduce_mask`.
    """

    def __init__(
        self,
        units: Sequence[int],
        width: int,
        *,
        block: int = 4,
        average: bool = False,
        tolerance: float = 0.0,
    ) -> None:
        super().__init__()
        self.block, self.average, self.tolerance = block, average, tolerance
        self.down, self.stages = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for stage, count in enumerate(units):
            out = 4 * width << stage
            self.down.append(nn.Sequential(*conv_bn(channels, out, 3, 2), nn.ReLU()))
            self.stages.append(nn.ModuleList(Unit(out, out // 4) for _ in range(count)))
            channels = out
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return scores, (N, 1, H / 2 ** stages, W / 2 ** stages).

        Args:
            image: (N, 3, H, W).
            mask: Where to compute, (N, 1, H, W), float in [0, 1].
        """
        x = image
        for down, units in zip(self.down, self.stages, strict=True):
            x = down(x)  # (N, C, H', W')
            mask = F.max_pool2d(mask, 2, ceil_mode=True)  # (N, 1, H', W')
            active = self.active(mask)  # (N, 1, H', W')
            for unit in units:  # type: ignore[attr-defined]
                x = unit(x, active)
        scores: Tensor = self.head(x)
        return scores

    def active(self, mask: Tensor) -> Tensor:
        """The pixels of active blocks, bool, (N, 1, H, W), of a mask (N, 1, H, W)."""
        coarse = reduce_mask(
            mask, self.block, average=self.average, tolerance=self.tolerance
        ).float()
        fine = F.interpolate(coarse, scale_factor=float(self.block), mode="nearest")
        return fine[:, :, : mask.shape[2], : mask.shape[3]] > 0.5


def example_mask(count: int, size: Size, density: float = PUBLISHED_DENSITY) -> Tensor:
    """Masks of ones and zeros, (count, 1, H, W), whose ones are one square each.

    Args:
        count: N.
        size: H and W.
        density: Share of ones. Sides and corners are rounded to sixteenths of the image, or to
            16 pixels if that is more, so that blocks are either full or empty.
    """
    height, width = both_sides(size)
    shorter = min(height, width)
    step = max(16, shorter // 16)
    whole = round((height * width * density) ** 0.5 / step) * step
    side = min(max(step, whole), shorter)
    mask = torch.zeros(count, 1, height, width)
    for index in range(count):
        rows, columns = (height - side) // step + 1, (width - side) // step + 1
        top, left = step * (index % rows), step * (index // rows % columns)
        mask[index, :, top : top + side, left : left + side] = 1
    return mask


def resnet(
    units: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    block: int = 4,
    average: bool = False,
    tolerance: float = 0.0,
) -> SBNet:
    """A settled network; small by default."""
    return seeded(
        lambda: SBNet(units, width, block=block, average=average, tolerance=tolerance),
        PUBLISHED_DENSITY,
        [example_images(4, 64), example_mask(4, 64)],
    )


def detector() -> SBNet:
    """A bird's-eye detector's backbone; its size is doubtful.

    The sizes are those of PIXOR (CVPR 2018, arXiv 1902.06326), of the same group; the tables of the
    SBNet paper could not be read.
    """
    return resnet((3, 6, 6, 4), 24, block=16)
