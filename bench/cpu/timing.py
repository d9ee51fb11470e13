"""Times of several functions against each other on a machine that does other work too.

Every round visits every function, each time beginning with the next one: one call unmeasured,
then a few measured. Samples during which a thread of this process waited long for a processor are
dropped if enough clean ones remain; otherwise the fastest third speaks.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROUNDS, CALLS = 6, 3
MOST_WAITING = 0.04  # of a sample's time, summed over the threads
ENOUGH = 5  # clean samples


def be_favoured() -> bool:
    """Ask Linux to run this process before others; plain niceness does nothing with autogroups."""
    try:
        os.setsid()
    except PermissionError:
        pass  # it leads a session already
    try:
        Path("/proc/self/autogroup").write_text("-19")
    except OSError:
        return False
    return True


def median_milliseconds(
    functions: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, float]:
    """Milliseconds of one call, by name."""
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in functions}
    names = list(functions)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            functions[name]()
            for _ in range(CALLS):
                samples[name].append(_sample(functions[name]))
            time.sleep(0.003)
    return {name: 1000 * _typical(samples[name]) for name in names}


def _sample(function: Callable[[], object]) -> tuple[float, bool]:
    waited, start = _waited(), time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    return seconds, _waited() - waited <= MOST_WAITING * seconds


def _typical(samples: list[tuple[float, bool]]) -> float:
    clean = [seconds for seconds, is_clean in samples if is_clean]
    if len(clean) >= ENOUGH:
        return statistics.median(clean)
    fastest = sorted(seconds for seconds, _ in samples)
    return statistics.median(fastest[: max(1, len(fastest) // 3)])


def _waited() -> float:
    """Seconds that the threads of this process have waited for a processor."""
    total = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[1])
        except (OSError, IndexError):
            continue  # it has ended, or this is not Linux
    return total / 1e9
