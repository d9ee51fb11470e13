"""BlockDrop: a policy network drops residual blocks per image (CVPR 2018, arXiv 1711.08393).

The policy, a small residual network on the image at half size, decides all blocks up front: block t
runs where sigmoid(logit_t) >= 0.5, so that a tie runs. A block that runs gives relu(ds(x) + F(x)),
one that is dropped gives ds(x), without the ReLU; ds is the identity but in the first block of a
stage. The official batch forward computes every block and mixes by the mask, which is written here.
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
    basic_block,
    bottleneck,
    centre,
    example_images,
    run_or_skip,
    seeded,
    shortcut,
)

PUBLISHED_DENSITY = 0.75  # 24.77 of 33 blocks of ResNet-101 on ImageNet


class Residual(nn.Module):
    """A plain residual block: relu(ds(x) + F(x)).

    Args:
        place: Where the block stands.
        expansion: 4 for a bottleneck, 1 for a basic block.
    """

    def __init__(self, place: Place, expansion: int = 4) -> None:
        super().__init__()
        self.branch = bottleneck(place) if expansion == 4 else basic_block(place)
        self.ds = shortcut(place, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, expansion width, H / stride, W / stride)."""
        return F.relu(self.ds(x) + self.branch(x))


class Policy(Gate):
    """One probability per block from the image at half size; p >= 0.5 runs the block.

    Args:
        depths: Blocks per stage of the policy network; one each is the published one.
        width: Channels of its stem.
        actions: Number of blocks to decide on.
    """

    def __init__(self, depths: Sequence[int], width: int, actions: int) -> None:
        super().__init__()
        self.features = ResidualNet(
            lambda place: Residual(place, 1), depths, width, actions, expansion=1
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> the policy of ones and zeros, (N, actions), float."""
        probabilities = torch.sigmoid(self.features(F.avg_pool2d(image, 2)))  # (N, actions)
        return (probabilities >= 0.5).float()

    def set_density(self, density: float, *inputs: Tensor) -> None:
        """See `Gate`; each block is balanced for itself."""
        # The batch norms below settle first, during this call.
        logits = self.features(F.avg_pool2d(inputs[0], 2))  # (N, actions)
        head = self.features.head
        for action in range(logits.shape[1]):
            scale, shift = centre(logits[:, action], density)
            head.weight[action] *= scale
            head.bias[action] = head.bias[action] * scale + shift


class BlockDrop(ResidualNet):
    """A ResNet whose blocks are dropped per image by the policy.

    Args:
        depths: Blocks per stage.
        width: Channels of the stem.
        classes: Number of classes.
        policy_depths: Blocks per stage of the policy network.
        policy_width: Channels of its stem.

    Attributes:
        one_image: Compute only what runs, for a batch of one image (`forward_single` there).
    """

    def __init__(
        self,
        depths: Sequence[int],
        width: int,
        classes: int,
        policy_depths: Sequence[int] = (1, 1, 1, 1),
        policy_width: int = 64,
    ) -> None:
        super().__init__(Residual, depths, width, classes)
        self.one_image = False
        self.policy = Policy(policy_depths, policy_width, sum(depths))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, classes), of images (N, 3, H, W)."""
        return self.run(image, self.policy(image))

    def run(self, image: Tensor, policy: Tensor) -> Tensor:
        """Logits (N, classes) under a given policy of ones and zeros, (N, blocks), float."""
        x = self.stem(image)
        for step, block in enumerate(self.blocks):
            assert isinstance(block, Residual)
            if self.one_image:
                x = run_or_skip(policy[:, step] == 1, block, block.ds, x)
                continue
            action = policy[:, step].view(-1, 1, 1, 1)  # (N, 1, 1, 1)
            skipped = block.ds(x)  # (N, C, H, W)
            fx = F.relu(skipped + block.branch(x))  # (N, C, H, W)
            x = fx * action + skipped * (1 - action)
        return self.classify(x)


def resnet(
    depths: Sequence[int] = (1, 2),
    width: int = 8,
    *,
    classes: int = 10,
    policy_depths: Sequence[int] = (1, 1),
    policy_width: int = 8,
    one_image: bool = False,
) -> BlockDrop:
    """A settled network; small by default."""
    model = seeded(
        lambda: BlockDrop(depths, width, classes, policy_depths, policy_width),
        PUBLISHED_DENSITY,
        [example_images(32, 64)],
    )
    model.one_image = one_image
    return model


def resnet101() -> BlockDrop:
    """The published ResNet-101: 33 blocks, decided by a ResNet-10."""
    return resnet(RESNET_DEPTHS[101], 64, classes=1000, policy_depths=(1, 1, 1, 1), policy_width=64)
