"""Comparing decisions: a hard argmax is discontinuous, so pixels near a tie may flip.

A flip is explained if the reference itself was undecided there: its two best logits differ by no
more than the precision's error. Any other flip is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.compare import NETWORK_BOUNDS


@dataclass(frozen=True)
class GateComparison:
    """One gate of the engine held to the reference's.

    Attributes:
        name: Of the gate.
        pixels: Decisions compared.
        density: Share of each branch in the reference, (K,).
        flips: Decisions that differ when the engine runs freely; one flip may cause others later.
        forced_flips: Decisions that differ when every earlier gate is forced to the reference's.
        unexplained: Forced flips whose margin in the reference is above `margin_bound`.
        worst_margin: Largest margin of a forced flip, in logits; 0 without flips.
        margin_bound: The precision's error bound times the largest logit.
    """

    name: str
    pixels: int
    density: tuple[float, ...]
    flips: int
    forced_flips: int
    unexplained: int
    worst_margin: float
    margin_bound: float

    @property
    def passed(self) -> bool:
        """Whether every flip is explained."""
        return self.unexplained == 0


def compare_gate(
    name: str,
    logits: npt.NDArray[Any],
    reference: npt.NDArray[np.int32],
    free: npt.NDArray[np.int32],
    forced: npt.NDArray[np.int32],
    precision: str = "float32",
) -> GateComparison:
    """Compare one gate's decisions.

    Args:
        name: Of the gate.
        logits: The reference's, (N, K, H, W).
        reference: Its selection, (N, 1, H, W).
        free: The engine's selection, as deployed, (N, 1, H, W).
        forced: The engine's selection behind gates that are forced to the reference's.
        precision: Of the engine: a key of NETWORK_BOUNDS.
    """
    branches = logits.shape[1]
    counts = np.bincount(reference.ravel(), minlength=branches)
    bound = NETWORK_BOUNDS[precision] * float(np.abs(logits).max(initial=0.0))
    # (N, K, H, W) -> margin of the best over the second best, (N, 1, H, W)
    ordered = np.sort(logits, axis=1)
    margin = ordered[:, -1:] - ordered[:, -2:-1] if branches > 1 else np.full_like(ordered, np.inf)
    flipped = forced != reference
    margins = np.broadcast_to(margin, flipped.shape)[flipped]
    return GateComparison(
        name=name,
        pixels=int(reference.size),
        density=tuple(float(c) / max(1, reference.size) for c in counts),
        flips=int((free != reference).sum()),
        forced_flips=int(flipped.sum()),
        unexplained=int((margins > bound).sum()),
        worst_margin=float(margins.max(initial=0.0)),
        margin_bound=bound,
    )
