"""The small PAG-ResNet of the rooms example, its dense twin, and their trained weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from pagdeploy.examples.rooms.layout import CLASSES
from pagdeploy.exporters.models.pag_resnet import PAGResNet

BLOCKS = (2, 2, 3, 2)
WIDTH = 8
TASKS = {"segmentation": len(CLASSES), "boundary": 1, "depth": 1, "normals": 3}

WEIGHTS = Path(__file__).parent / "weights"

TARGETS = {"gated70": 0.7, "gated50": 0.5}
"""Trained gated networks and the share of pixels that each of their gates was asked to compute."""

LONGER = "dense_longer"
"""Name of the dense network that was trained on for as long as the gated ones; not shipped."""


def dense() -> PAGResNet:
    """The network without gates, with initial weights."""
    return PAGResNet(BLOCKS, WIDTH, TASKS, gated=False)


def gated() -> PAGResNet:
    """The network with eight gates and MultiPool, with initial weights."""
    return PAGResNet(BLOCKS, WIDTH, TASKS, gated=True, multi_pool=True)


factory = gated


def save_weights(model: PAGResNet, path: Path) -> None:
    """Write parameters and running statistics as float16 safetensors."""
    state = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(state))


def load_weights(model: PAGResNet, path: Path) -> None:
    """Read what `save_weights` wrote; every name must match."""
    state = load_file(path)
    model.load_state_dict(
        {n: v.to(torch.float32) if v.is_floating_point() else v for n, v in state.items()}
    )


def trained(name: str, folder: Path = WEIGHTS) -> PAGResNet:
    """The trained "dense", "gated70" or "gated50" network, in evaluation mode.

    Raises:
        KeyError: there is no such network.
    """
    model = {"dense": dense, LONGER: dense, "gated70": gated, "gated50": gated}[name]()
    load_weights(model, folder / f"{name}.safetensors")
    return model.eval()
