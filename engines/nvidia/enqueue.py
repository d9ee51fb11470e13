"""What a plan's run costs the host, and what it costs the GPU: trtexec's enqueue and compute time.

A run is enqueued without waiting. If that takes the host nearly as long as the GPU computes, the
GPU waits for the host, and no kernel can be blamed for it.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pagdeploy.engines.base import Arrays
from pagdeploy.engines.nvidia.session import PlanSession
from pagdeploy.errors import EnvironmentProblem

BOUND = 0.8
"""Share of the GPU's time above which enqueueing is said to hold it back, as trtexec says it."""
_WARM_UP, _RUNS = 10, 100
_SUCCESS = 0


@dataclass(frozen=True)
class EnqueueTimes:
    """Medians, in milliseconds.

    Attributes:
        host_ms: Of the call that enqueues a run.
        gpu_ms: Between events on the stream before and after it.
    """

    host_ms: float
    gpu_ms: float

    @property
    def bound(self) -> bool:
        """Whether the host may hold the GPU back."""
        return self.host_ms > BOUND * self.gpu_ms


class Events(Protocol):
    """Marks on a stream, whose distance the GPU measures."""

    def record(self, stream: int) -> int:
        """Put a mark on a stream; its handle."""

    def between(self, start: int, end: int) -> float:
        """Milliseconds between two marks, after waiting for the second; both are gone then."""


def time_enqueue(
    session: PlanSession,
    inputs: Arrays,
    *,
    runs: int = _RUNS,
    events: Callable[[], Events] | None = None,
) -> EnqueueTimes:
    """Enqueue runs one by one, waiting for each; transfers are left out.

    Args:
        session: Of the plan.
        inputs: By name.
        runs: That are counted.
        events: What measures; default: the CUDA driver.

    Raises:
        UsageError, BuildFailed, EnvironmentProblem: as `PlanSession.run`.
    """
    enqueue, stream = session.enqueuer(inputs)
    marks = (events or DriverEvents)()
    host, gpu = [], []
    for number in range(_WARM_UP + runs):
        start = marks.record(stream)
        begin = time.perf_counter()
        enqueue()
        took = time.perf_counter() - begin
        elapsed = marks.between(start, marks.record(stream))
        if number >= _WARM_UP:
            host.append(took * 1e3)
            gpu.append(elapsed)
    return EnqueueTimes(float(np.median(host)), float(np.median(gpu)))


class DriverEvents:
    """Events of the CUDA driver, in the context that the runtime made current.

    Args:
        library: Of the driver.

    Raises:
        EnvironmentProblem: it cannot be loaded.
    """

    def __init__(self, library: str = "libcuda.so.1") -> None:
        try:
            self._driver = ctypes.CDLL(library)
        except OSError:
            raise EnvironmentProblem(
                f"The CUDA driver's library {library} cannot be loaded.",
                remedy="See what is wrong with 'pagdeploy doctor'.",
            ) from None

    def record(self, stream: int) -> int:
        """Put a mark on a stream; its handle."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        self._call("cuEventRecord", event, ctypes.c_void_p(stream))
        assert event.value is not None, "the driver made it"
        return event.value

    def between(self, start: int, end: int) -> float:
        """Milliseconds between two marks, after waiting for the second; both are gone then."""
        elapsed = ctypes.c_float()
        first, second = ctypes.c_void_p(start), ctypes.c_void_p(end)
        self._call("cuEventSynchronize", second)
        self._call("cuEventElapsedTime", ctypes.byref(elapsed), first, second)
        for event in (first, second):
            self._call("cuEventDestroy_v2", event)
        return float(elapsed.value)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != _SUCCESS:
            raise EnvironmentProblem(
                f"The CUDA driver fails in {name} ({status}).",
                remedy="See what is wrong with 'pagdeploy doctor'.",
            )
