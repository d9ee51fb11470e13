"""The trained rooms networks: they load, they predict, and their gates meet their density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pagdeploy.examples.rooms.dataset import HELD_OUT_SEEDS, TRAINING_SEEDS, held_out
from pagdeploy.examples.rooms.evaluate import measure, run_all
from pagdeploy.examples.rooms.metrics import (
    boundary_scores,
    mask_scores,
    mutual_information,
    segmentation_scores,
)
from pagdeploy.examples.rooms.model import TARGETS, WEIGHTS, trained

ROOMS = held_out(HELD_OUT_SEEDS[:60])
NETWORKS = ("dense", *TARGETS)
TOTAL_BYTES = 4_000_000
MIOU_FLOOR = 0.55


def test_held_out_scenes_are_not_training_scenes() -> None:
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)


def test_weights_are_small() -> None:
    files = [WEIGHTS / f"{name}.safetensors" for name in NETWORKS]
    assert sum(file.stat().st_size for file in files) < TOTAL_BYTES


@pytest.mark.parametrize("name", NETWORKS)
def test_network_predicts_held_out_rooms(name: str) -> None:
    scores = measure(trained(name), ROOMS).tasks
    assert scores["segmentation"]["mIoU"] > MIOU_FLOOR
    assert scores["boundary"]["best_F"] > 0.6
    assert scores["depth"]["abs_rel"] < 0.25
    assert scores["normals"]["mean_angle"] < 25


@pytest.mark.parametrize(("name", "target"), TARGETS.items())
def test_every_gate_meets_its_density(name: str, target: float) -> None:
    gates = measure(trained(name), ROOMS).gates
    assert len(gates) == 8
    densities = {gate: scores["density"] for gate, scores in gates.items()}
    assert densities == pytest.approx(dict.fromkeys(densities, target), abs=0.05)


@pytest.mark.parametrize("name", TARGETS)
def test_masks_follow_the_picture(name: str) -> None:
    batch, _, decisions = run_all(trained(name), ROOMS)
    bits, shuffled = [], []
    for gate in trained(name).gates():
        mask = decisions[gate] == 1  # (N, 1, h, w)
        assert (mask[1:] != mask[:-1]).float().mean() > 0.1, f"{gate} is the same everywhere"
        scores = mask_scores(mask, batch.classes, batch.boundary)
        assert scores["image_share"] > 0.5, f"{gate} is mostly a fixed pattern"
        bits.append(scores["class_bits"])
        shuffled.append(scores["class_bits_shuffled"])
    assert np.mean(bits) > 2 * np.mean(shuffled)


def test_unknown_network() -> None:
    with pytest.raises(KeyError, match="gated99"):
        trained("gated99")


def test_scores_of_a_perfect_answer() -> None:
    batch = ROOMS.batch(np.arange(4))
    assert segmentation_scores(batch.classes, batch.classes, 8)["pixel_accuracy"] == 1
    assert boundary_scores(batch.boundary, batch.boundary)["best_F"] == 1


def test_mutual_information() -> None:
    a = np.array([0, 1, 0, 1])
    assert mutual_information(a, a) == pytest.approx(1)
    assert mutual_information(a, np.array([0, 0, 1, 1])) == pytest.approx(0)


def test_a_fixed_pattern_has_no_image_share() -> None:
    pattern = (torch.arange(48) % 2 == 0).view(1, 1, 6, 8)
    mask: Tensor = pattern.expand(5, 1, 6, 8)
    batch = ROOMS.batch(np.arange(5))
    assert mask_scores(mask, batch.classes, batch.boundary)["image_share"] == pytest.approx(0)
