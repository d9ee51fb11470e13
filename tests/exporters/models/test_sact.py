"""SACT: where positions halt, what they cost, and that halted states stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pagdeploy.exporters.models.parts import Place
from pagdeploy.exporters.models.sact import EPS, Stage, Unit


class Scripted(nn.Module):
    """Halting probabilities from a list instead of the state."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x):
        """One probability per column of the state."""
        return self.values.view(1, 1, 1, -1).expand(x.shape[0], 1, x.shape[2], -1)


class Counter(nn.Module):
    """A unit that adds 1 to the active positions, and remembers its masks."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def forward(self, x, mask=None):
        """x + mask."""
        self.masks.append(mask)
        return x + (1 if mask is None else mask)


def stage(*columns):
    """Units whose position k halts by the probabilities columns[k]."""
    result = Stage([Unit(Place(0, 0, 8, 2, 1)) for _ in range(len(columns[0]) + 1)], 8)
    result.units = nn.ModuleList(Counter() for _ in range(len(columns[0]) + 1))
    result.halting = nn.ModuleList(Scripted(row) for row in zip(*columns, strict=True))
    return result


def test_positions_halt_where_the_sum_reaches_one_minus_eps():
    model = stage([0.995, 0.0, 0.0], [0.5, 0.6, 0.0], [0.2, 0.3, 0.4], [0.5, 0.49, 0.0])
    halted = model(torch.zeros(1, 2, 1, 4))
    assert halted.units[0, 0, 0].tolist() == [1, 2, 4, 2], "0.99 halts, 0.9 does not"
    torch.testing.assert_close(
        halted.ponder_cost[0, 0, 0], torch.tensor([1 + 1.0, 2 + 0.5, 4 + 0.1, 2 + 0.5])
    )


def test_the_output_weights_the_states_by_the_halting_distribution():
    model = stage([0.995, 0.3, 0.3], [0.5, 0.6, 0.0], [0.2, 0.3, 0.4])
    # The state after unit l is l while the position is active.
    expected = [1.0, 0.5 * 1 + 0.5 * 2, 0.2 * 1 + 0.3 * 2 + 0.4 * 3 + 0.1 * 4]
    output = model(torch.zeros(1, 1, 1, 3)).output
    torch.testing.assert_close(output[0, 0, 0], torch.tensor(expected))


def test_units_get_the_mask_of_positions_that_go_on_and_the_first_none():
    model = stage([0.995, 0.0], [0.5, 0.6], [0.0, 0.0])
    model(torch.zeros(1, 1, 1, 3))
    masks = [unit.masks[0] for unit in model.units]
    assert masks[0] is None
    assert [mask[0, 0, 0].tolist() for mask in masks[1:]] == [[0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("p", [1 - EPS, 1 - EPS - 1e-3])
def test_the_threshold_itself_halts(p):
    units = stage([p, 0.0])(torch.zeros(1, 1, 1, 1)).units
    assert units.item() == (1 if p == 1 - EPS else 3)


@pytest.mark.parametrize("dilate", [False, True])
def test_a_halted_position_keeps_its_state_and_an_active_one_does_not(dilate):
    torch.manual_seed(0)
    unit, x = Unit(Place(0, 1, 16, 4, 1), dilate=dilate).eval(), torch.randn(2, 16, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) < 0.5).float()
    with torch.no_grad():
        y, dense = unit(x, mask), unit(x)
    on = mask.bool().expand_as(x)
    assert torch.equal(y[~on], x[~on])
    assert torch.equal(y[on], dense[on]), "the max-pooled mask holds all that conv2 reads"


def test_the_first_unit_takes_the_stride_and_maps_the_activated_input():
    torch.manual_seed(0)
    unit, x = Unit(Place(1, 0, 6, 4, 2)).eval(), torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        residual = unit.conv3(unit.conv2(unit.conv1(unit.preact(x))))
        torch.testing.assert_close(unit(x), unit.shortcut(unit.preact(x)) + residual)
    assert residual.shape == (1, 16, 4, 4)
