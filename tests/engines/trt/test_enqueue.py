"""Enqueue and GPU time of a plan: what is called, in which order, and what the driver's words mean.

There is no GPU here: TensorRT is a stand-in that computes when a run is enqueued, and the driver is
a library that was compiled for this test.
"""

from __future__ import annotations

import ctypes
import itertools
import time

import numpy as np
import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.engines.nvidia.enqueue import DriverEvents, EnqueueTimes, time_enqueue
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.verbs.build import build
from pagdeploy.verbs.session import open_session
from tests.engines.nvidia.toolbox import compile_library

DRIVER = """
static int made, destroyed, waited; static void* streams[8];
int cuEventCreate(void** event, unsigned flags) {
    if (flags) return 1;
    *event = (void*)(long)(100 + made); ++made; return 0; }
int cuEventRecord(void* event, void* stream) { streams[(long)event - 100] = stream; return 0; }
int cuEventSynchronize(void* event) { waited = (int)(long)event; return 0; }
int cuEventElapsedTime(float* ms, void* a, void* b) {
    if (waited != (int)(long)b || streams[(long)a - 100] != streams[(long)b - 100]) return 600;
    *ms = 1.25f; return 0; }
int cuEventDestroy_v2(void* event) { (void)event; ++destroyed; return 0; }
int left(void) { return made - destroyed; }
"""


class Clock:
    """Events of the host's clock; `slow` is what a GPU would take beside."""

    def __init__(self, slow: float) -> None:
        self.marks, self.numbers, self.slow = {}, itertools.count(1), slow

    def record(self, stream: int) -> int:
        assert stream
        number = next(self.numbers)
        self.marks[number] = time.perf_counter()
        return number

    def between(self, start: int, end: int) -> float:
        return (self.marks.pop(end) - self.marks.pop(start)) * 1e3 + self.slow


@pytest.fixture
def session(install, model_file, tmp_path):
    install(10)
    path = tmp_path / "m.pagbundle"
    shapes = {"image": [1, 3, 20, 24]}
    build(model_file, path, engine="tensorrt", lowering="plugin", shapes=shapes)
    return open_session(open_bundle(path))


@pytest.mark.parametrize(("slow", "bound"), [(0.0, True), (1e6, False)])
def test_host_and_gpu_are_told_apart(session, slow, bound):
    image = np.random.default_rng(0).random((1, 3, 20, 24), np.float32)
    wanted = session.run({"image": image})["y"]
    clock = Clock(slow)
    found = time_enqueue(session, {"image": image}, runs=3, events=lambda: clock)
    assert 0 < found.host_ms <= found.gpu_ms and found.bound == bound
    assert not clock.marks, "every mark was read"
    np.testing.assert_array_equal(session.run({"image": image})["y"], wanted)


def test_an_input_that_does_not_fit_is_refused(session):
    with pytest.raises(UsageError, match="image"):
        time_enqueue(session, {"image": np.zeros((1, 3, 5), np.float32)}, events=lambda: Clock(0))


def test_trtexecs_limit():
    assert EnqueueTimes(0.81, 1.0).bound and not EnqueueTimes(0.79, 1.0).bound


def test_the_driver_is_asked_as_it_wants(tmp_path):
    library = str(compile_library(tmp_path / "libcuda.so", DRIVER))
    events = DriverEvents(library)
    start, end = events.record(7), events.record(7)
    assert events.between(start, end) == 1.25
    assert ctypes.CDLL(library).left() == 0, "every event is destroyed"
    with pytest.raises(EnvironmentProblem, match=r"fails in cuEventElapsedTime \(600\)"):
        events.between(events.record(7), events.record(8))
    with pytest.raises(EnvironmentProblem, match="cannot be loaded"):
        DriverEvents("no such library.so")
