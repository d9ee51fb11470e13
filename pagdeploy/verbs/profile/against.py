"""Two bundles in one process, taking turns: which is faster, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import Bundle, open_bundle
from pagdeploy.measure.bootstrap import Interval, ratio_interval
from pagdeploy.measure.latency import IN_A_ROW, Effort, run_in_turn, summarize
from pagdeploy.verbs.profile.candidates import load_engine
from pagdeploy.verbs.profile.result import Against

if TYPE_CHECKING:
    from pagdeploy.engines.base import Session

Arrays = Mapping[str, npt.NDArray[Any]]


def open_other(
    path: Path, inputs: Arrays, *, threads: int, host_code: bool
) -> tuple[Bundle, Session]:
    """The other bundle; it has to take the same inputs.

    Raises:
        UsageError: it takes others.
        EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `open_session`.
    """
    from pagdeploy.engines.base import check_inputs

    bundle = open_bundle(path)
    session = load_engine(bundle, threads=threads, host_code=host_code)
    check_inputs(session.inputs, inputs)
    return bundle, session


def compare_bundles(
    own: Session,
    other: tuple[Bundle, Session],
    inputs: Arrays,
    effort: Effort,
    percentiles: Sequence[float],
) -> Against:
    """Time both in turn on the same inputs.

    Args:
        own: Of the bundle that is profiled.
        other: As `open_other` gives it.
        inputs: By name.
        effort: How long to measure each.
        percentiles: To report.
    """
    bundle, session = other
    runs = run_in_turn(
        {"own": lambda: own.run(inputs), "other": lambda: session.run(inputs)}, effort
    )
    times = {name: [run.latency_ms for run in found] for name, found in runs.items()}
    speedup = ratio_interval(times["other"], times["own"], IN_A_ROW)
    info = bundle.manifest.engine
    return Against(
        bundle=str(bundle.path),
        engine=f"{info.flavour} {info.version}",
        lowering=info.lowering,
        precision=info.precision,
        own=summarize(runs["own"], percentiles),
        other=summarize(runs["other"], percentiles),
        speedup=speedup,
        verdict=verdict_of(speedup),
    )


def verdict_of(speedup: Interval) -> str:
    """In words; too few rounds decide nothing."""
    if not speedup.decided:
        return "within noise"
    return "faster" if speedup.ratio > 1 else "slower"
