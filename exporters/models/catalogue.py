"""The gated networks of the literature in one table: what each is, and what a compiler finds in it.

The counts are what the definitions say, not what any pass reports: `gates` are distinct hard
decisions per pixel, patch or image; `perforable` are the convolutions of which some outputs are
read by no one when a gate says no, whether the mask stands right behind them or further on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from pagdeploy.exporters.models import (
    blockdrop,
    convnet_aig,
    dynconv,
    lasnet,
    multi_pool,
    pag_masked,
    perforated_cnn,
    perspective,
    psa,
    sact,
    sbnet,
    segaware,
    skipnet,
    truncated_resnet,
)
from pagdeploy.exporters.models.parts import Size, example_images

Inputs = Callable[[int, Size], tuple[Tensor, ...]]


@dataclass(frozen=True)
class System:
    """One published network.

    Attributes:
        name: How reports call it.
        factory: Makes the small one, settled, in evaluation mode.
        gates: Hard decisions in the small one.
        perforable: Convolutions of the small one that need not be computed everywhere.
        full_size: Makes the published one; it takes seconds and hundreds of MB.
        full_gates: Hard decisions in the published one.
        full_perforable: Convolutions of the published one that need not be computed everywhere.
        published_density: Share of decisions for "run" that `factory` aims at; 1 if nothing is
            skipped. For K-way gates, the share of each branch.
        source: The paper.
        granularity: What one decision covers: "pixel", "patch", "block", "image", "static" or
            "none".
        inputs: Example inputs from a batch size, and a side or height and width.
        size: Side of the images that the small one takes.
        full_size_side: Side of the images that the published one takes.
    """

    name: str
    factory: Callable[[], nn.Module]
    gates: int
    perforable: int
    full_size: Callable[[], nn.Module]
    full_gates: int
    full_perforable: int
    published_density: float
    source: str
    granularity: str
    inputs: Inputs = lambda count, size: (example_images(count, size, seed=1),)
    size: int = 64
    full_size_side: int = 224


def _image_and_mask(count: int, size: Size) -> tuple[Tensor, ...]:
    return example_images(count, size, seed=1), sbnet.example_mask(count, size)


def _psa(definition: str) -> System:
    return System(
        f"PSA ({definition})",
        partial(psa.hrnet, definition=definition),
        0, 0,
        partial(psa.hrnet_w48, definition=definition),
        0, 0,
        psa.PUBLISHED_DENSITY,
        "Liu et al. 2021, arXiv 2107.00782",
        "none",
        full_size_side=256,
    )  # fmt: skip


_PAG = "Kong and Fowlkes, WACV 2019, arXiv 1805.01556"

SYSTEMS: tuple[System, ...] = (
    System(
        "PAG (3x3 gated)",
        pag_masked.resnet, 3, 3, pag_masked.resnet50, 16, 21,
        pag_masked.PUBLISHED_DENSITY, _PAG, "pixel", full_size_side=256,
    ),
    System(
        "PAG (residual)",
        pag_masked.residual, 3, 9, pag_masked.residual50, 16, 48,
        pag_masked.PUBLISHED_DENSITY, _PAG, "pixel", full_size_side=256,
    ),
    System(
        "MultiPool",
        multi_pool.resnet, 1, 6, multi_pool.resnet50, 1, 6,
        multi_pool.PUBLISHED_DENSITY, _PAG, "pixel", full_size_side=256,
    ),
    System(
        "MultiPool (tied)",
        multi_pool.tied, 1, 6, multi_pool.tied50, 1, 6,
        multi_pool.PUBLISHED_DENSITY, _PAG, "pixel", full_size_side=256,
    ),
    System(
        "depth-aware gating (soft)",
        perspective.resnet, 0, 0, perspective.resnet101, 0, 0,
        1.0, "Kong and Fowlkes, CVPR 2018, arXiv 1705.07238", "none", full_size_side=256,
    ),
    System(
        "depth-aware gating (hardened)",
        perspective.hardened, 4, 20, perspective.hardened101, 4, 20,
        perspective.PUBLISHED_DENSITY, "Kong and Fowlkes, CVPR 2018, arXiv 1705.07238", "pixel",
        full_size_side=256,
    ),
    System(
        "DynConv",
        dynconv.resnet, 2, 6, dynconv.resnet101, 33, 99,
        dynconv.PUBLISHED_DENSITY, "Verelst and Tuytelaars, CVPR 2020, arXiv 1912.03203", "pixel",
    ),
    System(
        "DynConv (depthwise, pose)",
        dynconv.hourglass, 9, 27, dynconv.pose_hourglass, 57, 171,
        dynconv.POSE_DENSITY, "Verelst and Tuytelaars, CVPR 2020, arXiv 1912.03203", "pixel",
        full_size_side=256,
    ),
    System(
        "SACT",
        sact.resnet, 4, 12, sact.resnet101, 29, 87,
        sact.PUBLISHED_DENSITY, "Figurnov et al., CVPR 2017, arXiv 1612.02297", "pixel",
    ),
    System(
        "LASNet (patches)",
        lasnet.resnet, 3, 9, lasnet.resnet101, 33, 99,
        lasnet.PUBLISHED_DENSITY, "Han et al., NeurIPS 2022, arXiv 2210.06223", "patch",
    ),
    System(
        "LAUDNet (layers)",
        lasnet.layer, 3, 9, lasnet.layer101, 33, 99,
        lasnet.PUBLISHED_DENSITY, "Han et al. 2023, arXiv 2308.15949", "image",
    ),
    System(
        "BlockDrop",
        blockdrop.resnet, 3, 9, blockdrop.resnet101, 33, 99,
        blockdrop.PUBLISHED_DENSITY, "Wu et al., CVPR 2018, arXiv 1711.08393", "image",
    ),
    System(
        "ConvNet-AIG",
        convnet_aig.resnet, 3, 9, convnet_aig.resnet101, 33, 99,
        convnet_aig.PUBLISHED_DENSITY, "Veit and Belongie, ECCV 2018, arXiv 1711.11503", "image",
    ),
    System(
        "SkipNet",
        skipnet.resnet, 2, 6, skipnet.resnet101, 32, 96,
        skipnet.PUBLISHED_DENSITY, "Wang et al., ECCV 2018, arXiv 1711.09485", "image",
    ),
    System(
        "SBNet",
        sbnet.resnet, 2, 9, sbnet.detector, 4, 57,
        sbnet.PUBLISHED_DENSITY, "Ren et al., CVPR 2018, arXiv 1801.02108", "block",
        inputs=_image_and_mask, full_size_side=512,
    ),
    System(
        "PerforatedCNN",
        perforated_cnn.vgg, 0, 2, perforated_cnn.vgg16, 0, 5,
        perforated_cnn.PUBLISHED_DENSITY, "Figurnov et al., NIPS 2016, arXiv 1504.08362", "static",
    ),
    System(
        "truncated ResNet",
        truncated_resnet.resnet, 0, 0, truncated_resnet.resnet50, 0, 0,
        truncated_resnet.PUBLISHED_DENSITY, _PAG, "none",
    ),
    *(_psa(definition) for definition in psa.DEFINITIONS),
    System(
        "SegAware (plain)",
        segaware.vgg, 0, 0, segaware.vgg16, 0, 0,
        segaware.PUBLISHED_DENSITY, "Harley et al., ICCV 2017, arXiv 1708.04607", "none",
        size=32, full_size_side=128,
    ),
    System(
        "SegAware (normalised)",
        segaware.normalized, 0, 0, segaware.normalized16, 0, 0,
        segaware.PUBLISHED_DENSITY, "Harley et al., ICCV 2017, arXiv 1708.04607", "none",
        size=32, full_size_side=128,
    ),
    System(
        "SegAware (bilateral)",
        segaware.bilateral, 0, 0, segaware.bilateral16, 0, 0,
        segaware.PUBLISHED_DENSITY, "Harley et al., ICCV 2017, arXiv 1708.04607", "none",
        size=32, full_size_side=128,
    ),
)  # fmt: skip


def names(systems: Iterable[System] = SYSTEMS) -> tuple[str, ...]:
    """The names, in the order of the table."""
    return tuple(system.name for system in systems)


def find(name: str) -> System:
    """The system of that name.

    Raises:
        KeyError: there is none; the message lists all names.
    """
    for system in SYSTEMS:
        if system.name == name:
            return system
    raise KeyError(f"no system is called {name!r}; there are {', '.join(names())}")
