"""Measure the trained rooms networks on scenes that they never saw, and draw their masks.

Run: python -m pagdeploy.examples.rooms.evaluate --out DIR
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pagdeploy.examples.rooms.dataset import HELD_OUT_SEEDS, Batch, RoomSet, held_out
from pagdeploy.examples.rooms.maps import draw_maps
from pagdeploy.examples.rooms.metrics import (
    boundary_scores,
    depth_scores,
    mask_scores,
    normal_scores,
    segmentation_scores,
)
from pagdeploy.examples.rooms.model import LONGER, TARGETS, TASKS, WEIGHTS, trained
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.modules import PAGGate

MAP_SEEDS = (1_000_000, 1_000_003, 1_000_005)
"""Held-out scenes that the picture of the maps shows."""


def run(model: PAGResNet, image: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Outputs of the network on (N, 3, H, W), and the decision of each gate by name.

    The decisions are int32 (N, 1, h, w): 0 or 1 for the gates of `model.gates()`, and the number
    of the branch for MultiPool, whose name ends in "conv2".
    """
    decisions: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            decisions[name] = output

        return hook

    hooks = [
        module.register_forward_hook(keep(name.removesuffix(".gate")))
        for name, module in model.named_modules()
        if isinstance(module, PAGGate)
    ]
    try:
        with torch.no_grad():
            outputs = model(image)
    finally:
        for handle in hooks:
            handle.remove()
    return outputs, decisions


def run_all(model: PAGResNet, rooms: RoomSet) -> tuple[Batch, list[Tensor], dict[str, Tensor]]:
    """All scenes with their labels, the outputs of each task and the decisions of each gate."""
    everything = rooms.batch(np.arange(len(rooms)))
    parts = [run(model, images) for images in torch.split(everything.image, 50)]
    outputs = [torch.cat(task) for task in zip(*(part[0] for part in parts), strict=True)]
    decisions = {name: torch.cat([part[1][name] for part in parts]) for name in parts[0][1]}
    return everything, outputs, decisions


@dataclass(frozen=True)
class Report:
    """What a network scores.

    Attributes:
        tasks: scores by task; see `metrics`.
        gates: `metrics.mask_scores` by gate; empty for the dense network.
        multi_pool: share of pixels by branch, by MultiPool block; empty for the dense network.
    """

    tasks: dict[str, dict[str, float]]
    gates: dict[str, dict[str, float]]
    multi_pool: dict[str, dict[str, float]]


def measure(model: PAGResNet, rooms: RoomSet) -> Report:
    """Score a network on all scenes of a set."""
    batch, outputs, decisions = run_all(model, rooms)
    segmentation, boundary, depth, normals = outputs
    classes = segmentation.argmax(1)  # (N, H, W)
    binary = model.gates()
    return Report(
        tasks={
            "segmentation": segmentation_scores(classes, batch.classes, TASKS["segmentation"]),
            "boundary": boundary_scores(boundary.sigmoid(), batch.boundary),
            "depth": depth_scores(depth, batch.depth),
            "normals": normal_scores(normals, batch.normals),
        },
        gates={
            name: mask_scores(decisions[name] == 1, batch.classes, batch.boundary)
            for name in binary
        },
        multi_pool={
            name: _branch_shares(model, name, chosen)
            for name, chosen in decisions.items()
            if name not in binary
        },
    )


def _branch_shares(model: PAGResNet, name: str, chosen: Tensor) -> dict[str, float]:
    dilations = getattr(model.get_submodule(name), "dilations", ())
    counts = torch.bincount(chosen.flatten(), minlength=len(dilations)) / chosen.numel()
    names = ["copy" if dilation == 0 else f"dilation {dilation}" for dilation in dilations]
    return dict(zip(names, counts.tolist(), strict=True))


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Write results.json and maps.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and picture")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the networks")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rooms = held_out()
    results: dict[str, object] = {
        "scenes": f"seeds {HELD_OUT_SEEDS.start} to {HELD_OUT_SEEDS.stop - 1}"
    }
    longer = [LONGER] if (arguments.weights / f"{LONGER}.safetensors").exists() else []
    for name in ("dense", *longer, *TARGETS):
        results[name] = asdict(measure(trained(name, arguments.weights), rooms))
        print(name, json.dumps(_rounded(results[name])), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(results), indent=2)
    (arguments.out / "results.json").write_text(text + "\n", encoding="utf-8")
    networks = {name: trained(name, arguments.weights) for name in TARGETS}
    draw_maps(networks, run, MAP_SEEDS, arguments.out / "maps.png")


if __name__ == "__main__":
    main()
