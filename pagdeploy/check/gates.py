"""Comparing decisions: a hard argmax is discontinuous, so pixels near a tie may flip.

A flip is explained if the reference itself was undecided there: its two best logits differ by no
more than the precision's error. Any other flip is a fault, and so are logits that differ by more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.compare import EPSILON, LOGIT_BOUNDS, compare


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
        margin_bound: The precision's error bound times the largest distance between two branches
            of a pixel, or times the threshold that they are the distance to, and the rounding of
            the largest logit: what all branches have in common decides nothing, but it is rounded.
        logit_error: Largest difference between the engine's own logits and the reference's; 0 if
            the engine does not show them.
        misread: Decisions that are not the argmax of the engine's own logits; an exact tie
            belongs to the lowest index.
    """

    name: str
    pixels: int
    density: tuple[float, ...]
    flips: int
    forced_flips: int
    unexplained: int
    worst_margin: float
    margin_bound: float
    misread: int = 0
    logit_error: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the logits agree, every flip is explained, and none is misread."""
        agree = self.logit_error <= self.margin_bound
        return agree and self.unexplained == 0 and self.misread == 0


def compare_gate(
    name: str,
    logits: npt.NDArray[Any],
    reference: npt.NDArray[np.int32],
    free: npt.NDArray[np.int32],
    forced: npt.NDArray[np.int32],
    precision: str = "fp32",
    own_logits: npt.NDArray[Any] | None = None,
    threshold: float = 0.0,
) -> GateComparison:
    """Compare one gate's decisions.

    Args:
        name: Of the gate.
        logits: The reference's, (N, K, H, W).
        reference: Its selection, (N, 1, H, W).
        free: The engine's selection, as deployed, (N, 1, H, W).
        forced: The engine's selection behind gates that are forced to the reference's.
        precision: Of the engine: a key of LOGIT_BOUNDS.
        own_logits: The engine's, behind forced gates, if it shows them.
        threshold: Magnitude of the constant that the logits are the distance to, as of p - 0.5.
    """
    branches = logits.shape[1]
    counts = np.bincount(reference.ravel(), minlength=branches)
    bound = _margin_bound(logits, precision, threshold)
    if not free.shape == forced.shape == reference.shape:  # nothing to compare pixel by pixel
        free = forced = np.full_like(reference, -1)
    flipped = forced != reference
    margins = margins_of(logits, forced)[flipped]
    misread, logit_error = 0, 0.0
    if own_logits is not None and own_logits.shape == logits.shape:
        misread = int((forced != own_logits.argmax(axis=1)[:, None]).sum())
        difference = compare(name, own_logits, logits.astype(own_logits.dtype), bound)
        finite = np.abs(logits[np.isfinite(logits)])
        logit_error = difference.error * float(finite.max(initial=0.0)) if difference.error else 0.0
    return GateComparison(
        name=name,
        pixels=int(reference.size),
        density=tuple(float(c) / max(1, reference.size) for c in counts),
        flips=int((free != reference).sum()),
        forced_flips=int(flipped.sum()),
        unexplained=int((margins > bound).sum()),
        worst_margin=float(margins.max(initial=0.0)),
        margin_bound=bound,
        misread=misread,
        logit_error=logit_error,
    )


def margins_of(
    logits: npt.NDArray[Any], decided: npt.NDArray[np.int32] | None = None
) -> npt.NDArray[Any]:
    """How far each decision is from a tie, in logits, (N, 1, H, W).

    Args:
        logits: (N, K, H, W).
        decided: What was decided, (N, 1, H, W); what is no branch at all is never near a tie.
    """
    branches = logits.shape[1]
    # (N, K, H, W) -> margin of the best over the second best, (N, 1, H, W)
    ordered = np.sort(logits, axis=1)
    with np.errstate(invalid="ignore"):  # two infinities are a tie
        margin = (
            ordered[:, -1:] - ordered[:, -2:-1] if branches > 1 else np.full_like(ordered, np.inf)
        )
    margin = np.nan_to_num(margin, posinf=np.inf)
    if decided is not None:
        margin = np.where((decided < 0) | (decided >= branches), np.inf, margin)
    return np.asarray(margin)


def _margin_bound(logits: npt.NDArray[Any], precision: str, threshold: float) -> float:
    finite = np.isfinite(logits)  # (N, K, H, W)
    highest = np.where(finite, logits, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(finite, logits, np.inf).min(axis=1, initial=np.inf)
    spread = float((highest - lowest).max(initial=0.0))  # -inf where no logit is finite
    # A distance to a threshold is as wrong as the number that it was taken from, which is about as
    # large as the threshold: one decision for an image may lie as near to it as it likes.
    spread = max(spread, threshold)
    largest = float(np.abs(logits[finite]).max(initial=0.0)) + threshold
    # Engines keep logits in float32, but compute them from features that they have rounded.
    return LOGIT_BOUNDS[precision] * spread + 8 * EPSILON[precision] * largest
