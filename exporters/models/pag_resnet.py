"""PAG-ResNet: the pixel-gated bottleneck network of Kong and Fowlkes (2018, arXiv 1805.01556).

Written from the published definition and the released configuration of the network: output
stride 8, the stride on the first 1x1 of a block, a gate on every 3x3 with X passing through, and
MultiPool instead of the 3x3 in the second last residual block. At ResNet-50 depth that makes 15
gates and one seven-way MultiPool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.modules import MultiPool, PAGGate, PerforatedConv2d
from pagdeploy.exporters.norms import make_norm

DEPTHS: Mapping[int, tuple[int, int, int, int]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
TASKS: Mapping[str, int] = {"segmentation": 40, "boundary": 1, "depth": 1, "normals": 3}
# The released pyramid pool: large dilations first, then the block's own 3x3, then the copy.
DILATIONS = (10, 8, 6, 4, 2, 1, 0)


class ConvNorm(nn.Sequential):
    """A convolution without bias and its normalisation: (N, C, H, W) -> (N, Co, Ho, Wo)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: str) -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False),
            make_norm(norm, out),
        )


class Bottleneck(nn.Module):
    """One gated residual block.

        X = relu(norm(conv1x1(I)))
        Y = (1 - G) X + G relu(norm(conv3x3(X)))
        O = relu(shortcut(I) + norm(conv1x1(Y)))

    G is decided from the block's input I. The last 1x1 and the shortcut are dense. With
    MultiPool, Y is the dilation that each pixel chose, decided from X.

    Args:
        channels: Channels of I.
        width: Channels of X and Y; O has four times as many.
        stride: Of the first 1x1, the shortcut and the gate.
        dilation: Of the 3x3.
        middle: "dense", "gated" or "multi_pool".
        norm: "batch" or "cha_atten".
        blur: Smooth the gate's logits (see PAGGate).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        dilation: int,
        *,
        middle: str,
        norm: str,
        blur: bool,
    ) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = ConvNorm(channels, width, 1, stride, norm)
        self.gate: PAGGate | None = None
        if middle == "multi_pool":
            head = multi_pool_head(width, len(DILATIONS))
            self.conv2: nn.Module = MultiPool(width, DILATIONS, PAGGate(head), norm=norm)
        else:
            self.conv2 = PerforatedConv2d(
                width,
                width,
                3,
                padding=dilation,
                dilation=dilation,
                bias=False,
                activation="relu",
                norm=make_norm(norm, width),
            )
            if middle == "gated":
                self.gate = PAGGate(nn.Conv2d(channels, 2, 1, stride), blur=blur)
        self.conv3 = ConvNorm(width, out, 1, 1, norm)
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(channels, out, 1, stride, norm)

    def forward(self, block_input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        x = F.relu(self.conv1(block_input))  # (N, width, H', W')
        if isinstance(self.conv2, MultiPool):
            y = self.conv2(x)
        else:
            selection = None if self.gate is None else self.gate(block_input)
            y = self.conv2(x, selection, x)
        return F.relu(self.shortcut(block_input) + self.conv3(y))


def multi_pool_head(channels: int, branches: int) -> nn.Sequential:
    """The released MultiPool decision head: 1x1 -> 128, 3x3 -> 32, 1x1 -> K with bias.

    Narrow networks get a narrower head: never wider than twice their own channels.
    """
    wide, narrow = min(128, 2 * channels), min(32, channels)
    return nn.Sequential(
        ConvNorm(channels, wide, 1, 1, "batch"),
        nn.ReLU(),
        ConvNorm(wide, narrow, 3, 1, "batch"),
        nn.ReLU(),
        nn.Conv2d(narrow, branches, 1),
    )


class PAGResNet(nn.Module):
    """The gated network, or its dense twin with the same parameter names.

    Args:
        blocks: Residual blocks per stage; `DEPTHS` has those of ResNet-50 and -101.
        width: Channels of the stem and of X in the first stage; 64 in the paper.
        tasks: Output channels by task, in the order of the outputs. Known tasks: segmentation
            (logits), boundary (one logit), depth (metres, positive), normals (unit vectors).
        gated: Gate every 3x3. False makes the dense twin.
        multi_pool: MultiPool in the second last residual block of a gated network.
        norm: "batch" or "cha_atten", the official channel attention.
        blur: Smooth the gates' logits.

    Raises:
        ValueError: a task is unknown, or a stage has no block.
    """

    def __init__(
        self,
        blocks: Sequence[int] = DEPTHS[50],
        width: int = 64,
        tasks: Mapping[str, int] = TASKS,
        *,
        gated: bool = True,
        multi_pool: bool = True,
        norm: str = "batch",
        blur: bool = False,
    ) -> None:
        super().__init__()
        if unknown := set(tasks) - set(TASKS):
            raise ValueError(f"unknown tasks {sorted(unknown)}; known: {sorted(TASKS)}")
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks must be four positive numbers, got {tuple(blocks)}")
        self.tasks = dict(tasks)
        self.image_mean: Tensor
        self.image_std: Tensor
        self.register_buffer("image_mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("image_std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.stem = ConvNorm(3, width, 7, 2, norm)
        channels = width
        self.stages: list[list[str]] = []
        for stage, (count, stride, dilation) in enumerate(
            zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        ):
            names = [f"res{stage + 2}_{index + 1}" for index in range(count)]
            for index, name in enumerate(names):
                middle = "gated" if gated else "dense"
                if gated and multi_pool and stage == 3 and index == count - 2:
                    middle = "multi_pool"
                block = Bottleneck(
                    channels,
                    width << stage,
                    stride if index == 0 else 1,
                    dilation,
                    middle=middle,
                    norm=norm,
                    blur=blur,
                )
                self.add_module(name, block)
                channels = 4 * (width << stage)
            self.stages.append(names)
        self.heads = nn.ModuleDict()
        for task, out in tasks.items():
            if task == "boundary":
                # Side outputs of every stage, summed: edges live at all scales.
                sides = [4 * (width << stage) for stage in range(4)]
                self.heads[task] = nn.ModuleList(nn.Conv2d(side, out, 1) for side in sides)
            else:
                hidden = 4 * width
                self.heads[task] = nn.Sequential(
                    ConvNorm(channels, hidden, 3, 1, norm), nn.ReLU(), nn.Conv2d(hidden, out, 1)
                )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one (N, channels of the task, H, W) tensor per task, in the order of `tasks`.

        Args:
            image: RGB in [0, 1], (N, 3, H, W); it is normalised inside.
        """
        size = [image.shape[2], image.shape[3]]
        x = (image - self.image_mean) / self.image_std
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)  # (N, width, H/4, W/4)
        features = []
        for names in self.stages:
            for name in names:
                x = self.get_submodule(name)(x)
            features.append(x)
        return tuple(self._head(task, features, size) for task in self.tasks)

    def _head(self, task: str, features: list[Tensor], size: list[int]) -> Tensor:
        head = self.heads[task]
        if isinstance(head, nn.ModuleList):
            sides = [_resize(side(f), size) for side, f in zip(head, features, strict=True)]
            return torch.stack(sides).sum(0)  # (N, 1, H, W)
        y = _resize(head(features[-1]), size)  # (N, C, H, W)
        if task == "depth":
            return F.softplus(y)
        if task == "normals":  # the official L2normalization layer: x / (|x| + 1e-5)
            return y / (torch.sqrt((y * y).sum(1, keepdim=True)) + 1e-5)
        return y

    def gates(self) -> dict[str, PAGGate]:
        """The binary gates by block name; the MultiPool's own gate is not among them."""
        blocks = ((n, self.get_submodule(n)) for names in self.stages for n in names)
        return {n: b.gate for n, b in blocks if isinstance(b, Bottleneck) and b.gate is not None}

    def set_temperature(self, temperature: float) -> None:
        """Set the Gumbel-softmax temperature of every gate, MultiPool's included."""
        for module in self.modules():
            if isinstance(module, PAGGate):
                module.temperature = temperature

    def load_dense(self, state: Mapping[str, Tensor]) -> None:
        """Start from a trained dense twin; every MultiPool branch starts from the block's 3x3.

        Gates keep their initial values. Raises KeyError if a shared parameter is absent.
        """
        full = self.state_dict()
        for name in full:
            source = name
            if ".conv2.branches." in name:
                block, rest = name.split(".conv2.branches.")
                source = f"{block}.conv2.{rest.split('.', 1)[1]}"
            elif ".gate." in name:
                continue
            full[name] = state[source]
        self.load_state_dict(full)


def _resize(y: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(y, size=size, mode="bilinear", align_corners=False)  # (N, C, H, W)


def resnet50(tasks: Mapping[str, int] = TASKS, **options: bool | str) -> PAGResNet:
    """PAG-ResNet-50 at full width."""
    return PAGResNet(DEPTHS[50], 64, tasks, **options)  # type: ignore[arg-type]


def resnet101(tasks: Mapping[str, int] = TASKS, **options: bool | str) -> PAGResNet:
    """PAG-ResNet-101 at full width."""
    return PAGResNet(DEPTHS[101], 64, tasks, **options)  # type: ignore[arg-type]
