"""What a profile has found so far, and what it sees inside of an engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.errors import EnvironmentProblem
from pagdeploy.verbs.profile.result import (
    ENGINE,
    Against,
    Balance,
    Enqueue,
    OpRow,
    Peak,
    Point,
    RooflinePoint,
    Saving,
    Worst,
)

if TYPE_CHECKING:
    from pagdeploy.engines.base import Session
    from pagdeploy.engines.ort_profile import NodeTimes
    from pagdeploy.measure.latency import Run
    from pagdeploy.verbs.profile.candidates import Candidates

Arrays = Mapping[str, npt.NDArray[Any]]

_log = logging.getLogger("pagdeploy.profile")


@dataclass
class Measured:
    """What was found so far."""

    request: Point
    runs: list[Run]
    densities: list[Point] = field(default_factory=list)
    budgets: list[Point] = field(default_factory=list)
    ops: list[OpRow] = field(default_factory=list)
    nodes: list[NodeTimes] = field(default_factory=list)
    savings: list[Saving] = field(default_factory=list)
    balance: Balance | None = None
    peak: Peak | None = None
    roofline: list[RooflinePoint] = field(default_factory=list)
    worst: Worst | None = None
    against: Against | None = None
    enqueue: Enqueue | None = None


def look_inside(
    candidates: Candidates, inputs: Arrays, own: Arrays, runs: int, found: Measured
) -> None:
    """Where the time goes, as far as the engine tells."""
    from pagdeploy.verbs.profile.ops import node_times, op_rows
    from pagdeploy.verbs.profile.roofline import probe_machine, under_the_roof
    from pagdeploy.verbs.profile.savings import find_savings, plain_times, strike_balance

    if candidates.flavour != "onnxruntime":
        found.enqueue = _enqueue(candidates.sessions[ENGINE], inputs)
        return
    times = node_times(candidates, inputs, runs)
    found.nodes = times[ENGINE]
    found.ops = op_rows(candidates, inputs, own, times)
    by_name, total = plain_times(candidates, times)
    found.savings = find_savings(found.ops, by_name)
    found.balance = strike_balance(found.ops, found.savings, total)
    found.peak = probe_machine(candidates.threads)
    if candidates.precision == "fp32":
        found.roofline = under_the_roof(candidates, inputs, own, found.savings, found.peak)


def _enqueue(session: Session, inputs: Arrays) -> Enqueue | None:
    """Host and GPU time of a plan; None of what is no plan."""
    from pagdeploy.engines.nvidia.enqueue import time_enqueue
    from pagdeploy.engines.nvidia.session import PlanSession

    if not isinstance(session, PlanSession):
        return None
    try:
        times = time_enqueue(session, inputs)
    except EnvironmentProblem as problem:  # CUDA's events cannot be had, and the rest can
        _log.info("What enqueueing takes is not measured: %s", problem)
        return None
    return Enqueue(times.host_ms, times.gpu_ms, times.bound)
