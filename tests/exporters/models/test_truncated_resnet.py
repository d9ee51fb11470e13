"""The static baseline: the last blocks of each stage are gone for every pixel."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import truncated_resnet
from pagdeploy.exporters.models.parts import Gate


@pytest.mark.parametrize(
    ("kept", "expected"), [(1.0, (3, 4, 6, 3)), (0.7, (3, 3, 5, 3)), (0.1, (1, 1, 1, 1))]
)
def test_the_kept_share_of_each_stage_is_rounded_up(kept, expected):
    assert truncated_resnet.truncated((3, 4, 6, 3), kept) == expected


def test_the_network_has_the_remaining_blocks_and_no_gate(monkeypatch):
    monkeypatch.setattr(truncated_resnet, "seeded", lambda make, density, inputs: make())
    with torch.device("meta"):
        model = truncated_resnet.resnet50()
    assert len(model.blocks) == 3 + 3 + 5 + 3
    assert not any(isinstance(module, Gate) for module in model.modules())
