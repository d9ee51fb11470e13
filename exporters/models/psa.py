"""Polarized self-attention in its three definitions, which are not equivalent (arXiv 2107.00782).

Channel branch: z = v(x) softmax(q(x))^T with q: C -> 1 and v: C -> C/2, softmax over the positions;
C values from z, sigmoid, times x. Spatial branch: the average of q(x): C -> C/2 against
v(x): C -> C/2 gives one value per position; sigmoid, times x. What differs:

    definition   values from z                       softmax of the spatial branch       output
    parallel     1x1                                 over positions, after the product   sum
    sequential   1x1 to C/8, layer norm, ReLU, 1x1   of v over positions, before it      chained
    paper        1x1, layer norm                     of the averaged q over channels     sum

"parallel" and "sequential" are PSA_p and PSA_s of the official code. "paper" follows the equations;
its layer norm is doubtful. Nothing is gated: all of it is dense, and no compiler may take the
sigmoid for a decision. The host is HRNetV2, with PSA after the first 3x3 of every basic block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.models.parts import Place, conv_bn, example_images, seeded
from pagdeploy.exporters.models.truncated_resnet import Block

PUBLISHED_DENSITY = 1.0
DEFINITIONS = ("parallel", "sequential", "paper")
HRNET_MODULES = (1, 4, 3)  # exchange modules of the stages with 2, 3 and 4 branches


class PolarizedSelfAttention(nn.Module):
    """One of the three definitions; see the module.

    Args:
        channels: C, a multiple of 8.
        definition: "parallel", "sequential" or "paper".

    Raises:
        ValueError: the definition is another one.
    """

    def __init__(self, channels: int, definition: str = "parallel") -> None:
        super().__init__()
        if definition not in DEFINITIONS:
            raise ValueError(f"definition {definition!r} is not one of {DEFINITIONS}")
        self.definition = definition
        half = channels // 2
        self.channel_q = nn.Conv2d(channels, 1, 1, bias=False)
        self.channel_v = nn.Conv2d(channels, half, 1, bias=False)
        self.spatial_q = nn.Conv2d(channels, half, 1, bias=False)
        self.spatial_v = nn.Conv2d(channels, half, 1, bias=False)
        if definition == "sequential":
            up: list[nn.Module] = [
                nn.Conv2d(half, half // 4, 1),
                nn.LayerNorm([half // 4, 1, 1]),
                nn.ReLU(),
                nn.Conv2d(half // 4, channels, 1),
            ]
        else:
            up = [nn.Conv2d(half, channels, 1, bias=False)]
            if definition == "paper":
                up.append(nn.LayerNorm([channels, 1, 1]))
        self.up = nn.Sequential(*up)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if self.definition == "sequential":
            x = x * self.channel_weights(x)
            return x * self.spatial_weights(x)
        return x * self.spatial_weights(x) + x * self.channel_weights(x)

    def channel_weights(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1), in (0, 1)."""
        v = self.channel_v(x).flatten(2)  # (N, C/2, HW)
        q = self.channel_q(x).flatten(2).softmax(2)  # (N, 1, HW)
        z = torch.matmul(v, q.transpose(1, 2)).unsqueeze(-1)  # (N, C/2, 1, 1)
        return torch.sigmoid(self.up(z))

    def spatial_weights(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W), in (0, 1)."""
        q = F.adaptive_avg_pool2d(self.spatial_q(x), 1).flatten(2).transpose(1, 2)  # (N, 1, C/2)
        v = self.spatial_v(x).flatten(2)  # (N, C/2, HW)
        if self.definition == "paper":
            q = q.softmax(2)
        if self.definition == "sequential":
            v = v.softmax(2)
        context = torch.matmul(q, v)  # (N, 1, HW)
        if self.definition == "parallel":
            context = context.softmax(2)
        batch, _, height, width = x.shape
        return torch.sigmoid(context.view(batch, 1, height, width))


class BasicBlock(nn.Module):
    """relu(x + bn(conv3x3(PSA(relu(bn(conv3x3(x))))))).

    Args:
        channels: C.
        definition: See `PolarizedSelfAttention`.
    """

    def __init__(self, channels: int, definition: str) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv_bn(channels, channels, 3), nn.ReLU())
        self.attention = PolarizedSelfAttention(channels, definition)
        self.conv2 = conv_bn(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.relu(self.conv2(self.attention(self.conv1(x))) + x)


class Exchange(nn.Module):
    """Blocks on every branch, then every branch gets the sum of all (Wang et al. 2019, 1908.07919).

    Args:
        channels: Of the branches; branch i has 1 / 2^i of the first one's resolution.
        blocks: Basic blocks per branch.
        definition: See `PolarizedSelfAttention`.
    """

    def __init__(self, channels: Sequence[int], blocks: int, definition: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c, definition) for _ in range(blocks))) for c in channels
        )
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One (N, C_i, H / 2^i, W / 2^i) per branch -> the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, paths in enumerate(self.paths):
            total = maps[target]
            assert isinstance(paths, nn.ModuleList)
            for source, path in enumerate(paths):
                if source != target:
                    total = total + _resized(path(maps[source]), maps[target])
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """HRNetV2 for segmentation, without the object-context head of the official runs.

    Args:
        width: Channels of the finest branch; 48 as published.
        classes: Number of classes.
        definition: See `PolarizedSelfAttention`.
        modules: Exchange modules of the stages with 2, 3 and 4 branches.
        blocks: Basic blocks per branch of a module.
        stem: Channels of the stem.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        definition: str,
        *,
        modules: Sequence[int] = HRNET_MODULES,
        blocks: int = 4,
        stem: int = 64,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *conv_bn(3, stem, 3, 2), nn.ReLU(), *conv_bn(stem, stem, 3, 2), nn.ReLU()
        )
        places = [Place(0, i, 4 * stem if i else stem, stem, 1) for i in range(blocks)]
        self.stage1 = nn.Sequential(*(Block(place) for place in places))
        self.enter = nn.Sequential(*conv_bn(4 * stem, width, 3), nn.ReLU())
        self.widen, self.stages = nn.ModuleList(), nn.ModuleList()
        for branches, count in enumerate(modules, 2):
            channels = [width << i for i in range(branches)]
            before = 4 * stem if branches == 2 else channels[-2]
            self.widen.append(nn.Sequential(*conv_bn(before, channels[-1], 3, 2), nn.ReLU()))
            self.stages.append(
                nn.Sequential(*(Exchange(channels, blocks, definition) for _ in range(count)))
            )
        self.head = nn.Sequential(
            *conv_bn(sum(channels), sum(channels), 1),
            nn.ReLU(),
            nn.Conv2d(sum(channels), classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Class scores (N, classes, H/4, W/4) of images (N, 3, H, W)."""
        x = self.stage1(self.stem(image))  # (N, 4 stem, H/4, W/4)
        maps, newest = [self.enter(x)], x
        for widen, stage in zip(self.widen, self.stages, strict=True):
            maps = stage([*maps, widen(newest)])
            newest = maps[-1]
        joined = torch.cat([_resized(y, maps[0]) for y in maps], 1)  # (N, sum C, H/4, W/4)
        scores: Tensor = self.head(joined)
        return scores


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch's map to another's channels: 1x1 upwards, strided 3x3s downwards."""
    if source >= target:
        return nn.Identity() if source == target else conv_bn(channels[source], channels[target], 1)
    layers: list[nn.Module] = []
    for step in range(target - source):
        out = channels[target] if step == target - source - 1 else channels[source]
        layers += [*conv_bn(channels[source], out, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _resized(x: Tensor, like: Tensor) -> Tensor:
    size = [like.shape[2], like.shape[3]]
    if [x.shape[2], x.shape[3]] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def hrnet(
    width: int = 32,
    *,
    definition: str = "sequential",
    classes: int = 5,
    modules: Sequence[int] = (1,),
    blocks: int = 1,
    stem: int = 8,
    settle_size: int = 64,
) -> HRNet:
    """A settled network; small by default: two branches, one block each."""
    return seeded(
        lambda: HRNet(width, classes, definition, modules=modules, blocks=blocks, stem=stem),
        PUBLISHED_DENSITY,
        [example_images(4, settle_size)],
    )


hrnet_w48 = partial(
    hrnet, 48, classes=19, modules=HRNET_MODULES, blocks=4, stem=64, settle_size=128
)
