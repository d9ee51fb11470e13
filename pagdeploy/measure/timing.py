"""Timing several candidates in turn, in one process, so that they meet the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Latency of one candidate, in milliseconds."""

    median_ms: float
    p95_ms: float
    runs: int


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    budget_seconds: float = 20.0,
) -> dict[str, Timing]:
    """Time each candidate once a round, the order rotating, after two untimed rounds.

    Args:
        candidates: What to run, by name.
        rounds: Timed rounds; at least three are taken.
        budget_seconds: Stop adding rounds after this long.
    """
    names = list(candidates)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 2:  # the first runs grow arenas and touch pages
        candidates[name]()
    start = time.perf_counter()
    for round_number in range(rounds):
        if round_number >= 3 and time.perf_counter() - start > budget_seconds:
            break
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.perf_counter()
            candidates[name]()
            samples[name].append((time.perf_counter() - begin) * 1e3)
    return {
        name: Timing(float(np.median(times)), float(np.percentile(times, 95)), len(times))
        for name, times in samples.items()
    }
