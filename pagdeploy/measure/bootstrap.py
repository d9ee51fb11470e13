"""How sure a ratio of two medians is: the bootstrap over rounds.

The candidates took turns, so a round is one draw of the machine's state that both met. Rounds are
drawn anew with replacement, whole, so that what one round's runs share stays together: Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.5 and 13.3 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
FEWEST_ROUNDS = 10
"""With fewer, an interval promises too much."""
_RESAMPLES = 2000
_CHUNK = 2**22  # numbers drawn at once


@dataclass(frozen=True)
class Interval:
    """A ratio of medians, and where it lies with a confidence of `CONFIDENCE`.

    Attributes:
        ratio: Of the medians of all runs.
        low: Lower end.
        high: Upper end.
        rounds: Drawn from.
    """

    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def decided(self) -> bool:
        """Whether there is a difference beyond the noise."""
        return self.rounds >= FEWEST_ROUNDS and not self.low <= 1 <= self.high


def ratio_interval(
    above: Sequence[float], below: Sequence[float], in_a_row: int, seed: int = 0
) -> Interval:
    """The median of `above` over the median of `below`, with its interval.

    Args:
        above: Times of one candidate, `in_a_row` of each round, round after round.
        below: Of the other, of the same rounds.
        in_a_row: Runs of a round.
        seed: Of the draws.
    """
    numerator, denominator = (
        np.asarray(times, np.float64).reshape(-1, in_a_row) for times in (above, below)
    )  # (rounds, in_a_row) each
    rounds = len(numerator)
    rng = np.random.default_rng(seed)
    ratios, step = [], max(1, _CHUNK // numerator.size)
    for start in range(0, _RESAMPLES, step):
        drawn = rng.integers(0, rounds, (min(step, _RESAMPLES - start), rounds))
        medians = [
            np.median(times[drawn].reshape(len(drawn), -1), axis=1)
            for times in (numerator, denominator)
        ]  # (draws,) each
        ratios.append(medians[0] / medians[1])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(ratios), [tail, 100 - tail])
    return Interval(
        float(np.median(numerator) / np.median(denominator)), float(low), float(high), rounds
    )
