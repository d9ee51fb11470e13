"""A request to build, its words settled: which engine, in which precision, for which shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import ENGINE_PLAN
from pagdeploy.engines.base import BuildOptions
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.precision import Precision
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx

    from pagdeploy.engines.base import Engine
    from pagdeploy.measure.ranges import ValueRange

Arrays = Mapping[str, npt.NDArray[Any]]
Shapes = Mapping[str, Sequence[int]]
Ranges = Mapping[str, "ValueRange"]
# The lowering that is chosen region by region; our own ops pay at every density.
CHOSEN = "gather"
_WARNINGS_SHOWN = 5


@dataclass(frozen=True)
class Job:
    """One request, its words settled."""

    model: Path
    engine: Engine
    candidates: Sequence[str]
    precision: str
    keep_fp32: tuple[str, ...]
    calibration: Arrays | None
    ranges: Ranges | None
    shapes: Shapes
    bounds: tuple[Sequence[Shapes], Sequence[Shapes], Sequence[Shapes]]
    inputs: Arrays | None
    options: BuildOptions
    progress: Progress

    @property
    def typical(self) -> Arrays | None:
        """Inputs that densities can be measured with, stacked in the first axis, if any."""
        return self.inputs if self.calibration is None else self.calibration


def choose_engine(name: str, precision: str) -> Engine:
    """The engine, which must be able to build here, and in this precision."""
    from pagdeploy.engines import engine_named

    if name == "auto":
        tensorrt = engine_named("tensorrt")
        engine = tensorrt if tensorrt.available() is None else engine_named("onnxruntime")
    else:
        engine = engine_named(name)
    if problem := engine.available():
        raise EnvironmentProblem(f"The engine {name} cannot be used here.", remedy=problem)
    if precision not in engine.precisions:
        raise UsageError(
            f"The engine {engine.name} does not compute in {precision}.",
            remedy=f"Choose one of: {', '.join(engine.precisions)}; or another --engine.",
        )
    return engine


def require_useful(
    engine: Engine, precision: str, calibration: Arrays | None, options: BuildOptions | None
) -> None:
    """Refuse what would be ignored, or would overwrite itself."""
    chooses = CHOSEN in engine.lowerings
    if calibration is not None and precision not in ("fp16", "int8") and not chooses:
        raise UsageError(
            f"The engine {engine.name} needs no calibration data in {precision}.",
            remedy="Leave --calibration-data out, or ask for int8 or fp16.",
        )
    names = [path.name for path in (options.plugins if options else ())]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"Two plugin libraries are called {name}, and a bundle has one folder for them.",
                remedy="Rename one of them.",
            )


def candidates_of(engine: Engine, lowering: str) -> tuple[str, ...]:
    """The lowerings to build and time: the one that is asked for, or all.

    Raises:
        UsageError: the engine has no such lowering.
        EnvironmentProblem: it has, but not on this machine.
    """
    if lowering == "auto":
        return engine.lowerings
    if lowering == "native" and engine.name == "onnxruntime" and lowering not in engine.lowerings:
        raise EnvironmentProblem(
            "The library of our onnxruntime ops is not here.",
            remedy="Build it as docs/plugins.md says and set PAGDEPLOY_ORT_OPS to it, or choose"
            " --lowering gather.",
        )
    if lowering not in engine.lowerings:
        raise UsageError(
            f"The engine {engine.name} has no lowering {lowering!r}.",
            remedy=f"Choose one of: auto, {', '.join(engine.lowerings)}.",
        )
    return (lowering,)


def options_for(portable: onnx.ModelProto, job: Job, typical: Shapes) -> BuildOptions:
    """The engine's options, with what only the model can tell."""
    from pagdeploy.engines.nvidia.session import profile_for
    from pagdeploy.verbs.profiles import make_profiles

    smallest, _, largest = job.bounds
    profiles = []
    if smallest or largest or job.engine.file == ENGINE_PLAN:
        profiles = make_profiles(portable, typical, *job.bounds)
        profile_for(profiles, typical)  # before a long build: the sample must run
    return replace(job.options, profiles=profiles, precision=job.precision)


def settle_precision(
    portable: onnx.ModelProto, job: Job, inputs: Arrays
) -> tuple[Precision, Ranges, list[str]]:
    """The precision with the ranges that it needs, the ranges, and what they warn of."""
    from pagdeploy.verbs.calibrate import calibrate, precision_warnings

    if job.precision not in ("fp16", "int8"):
        return Precision(job.precision, job.keep_fp32), {}, []
    ranges = job.ranges or {}
    if not ranges and (job.precision == "fp16" or job.calibration is not None):
        data = inputs if job.calibration is None else job.calibration
        ranges = calibrate(portable, data, progress=silent)
    intervals = {name: seen.interval for name, seen in ranges.items()}
    integers = job.precision == "int8" and job.engine.integer_kernels
    precision = Precision(job.precision, job.keep_fp32, intervals or None, integers)
    warnings = precision_warnings(portable, ranges, precision)
    more = len(warnings) - _WARNINGS_SHOWN
    notes = [warning.message for warning in warnings[:_WARNINGS_SHOWN]]
    return precision, ranges, notes + ([f"{more} more values like these."] if more > 0 else [])
