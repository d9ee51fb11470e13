"""Latencies as trtexec reports them, of several candidates that take turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")
IN_A_ROW = 3
"""Timed runs of a candidate before the next one's turn."""


@dataclass(frozen=True)
class Effort:
    """How long to measure; the defaults are trtexec's.

    Attributes:
        iterations: Timed runs of every candidate, at least.
        warm_up_ms: Untimed running before that, per candidate.
        duration_s: Seconds for timed runs, at least, per candidate.
    """

    iterations: int = 10
    warm_up_ms: float = 200.0
    duration_s: float = 3.0


@dataclass(frozen=True)
class Run:
    """One timed run, in milliseconds since the measurement began."""

    start_ms: float
    end_ms: float

    @property
    def latency_ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True)
class Latency:
    """What many runs of one candidate took, in milliseconds.

    Attributes:
        runs: How many there were.
        percentiles_ms: By percentile, such as "90" or "99.9", in rising order.
    """

    runs: int
    min_ms: float
    max_ms: float
    mean_ms: float
    median_ms: float
    percentiles_ms: dict[str, float]


def run_in_turn(
    candidates: Mapping[Key, Callable[[], object]], effort: Effort
) -> dict[Key, list[Run]]:
    """Time the candidates round by round, so that all meet the same machine.

    Who begins a round rotates. A turn is one untimed run, which finds the caches full of what the
    other candidates left, and three timed ones; so all candidates have equally many runs, a
    multiple of three.

    Args:
        candidates: What to run, by name.
        effort: How long; the seconds are shared by the candidates.
    """
    names = list(candidates)
    for name in names:
        begin = time.perf_counter()
        while True:  # the first runs grow arenas and touch pages
            candidates[name]()
            if (time.perf_counter() - begin) * 1e3 >= effort.warm_up_ms:
                break
    found: dict[Key, list[Run]] = {name: [] for name in names}
    start, round_number = time.perf_counter(), 0
    while (
        round_number * IN_A_ROW < effort.iterations
        or time.perf_counter() - start < effort.duration_s * len(names)
    ):
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            candidates[name]()
            for _ in range(IN_A_ROW):
                begin = time.perf_counter()
                candidates[name]()
                end = time.perf_counter()
                found[name].append(Run((begin - start) * 1e3, (end - start) * 1e3))
        round_number += 1
    return found


def summarize(runs: Sequence[Run], percentiles: Sequence[float]) -> Latency:
    """The statistics of runs, of which there is at least one.

    Args:
        runs: Of one candidate.
        percentiles: Between 0 and 100.
    """
    times = np.array([run.latency_ms for run in runs])
    return Latency(
        runs=len(times),
        min_ms=float(times.min()),
        max_ms=float(times.max()),
        mean_ms=float(times.mean()),
        median_ms=float(np.median(times)),
        percentiles_ms={f"{p:g}": float(np.percentile(times, p)) for p in sorted(percentiles)},
    )
