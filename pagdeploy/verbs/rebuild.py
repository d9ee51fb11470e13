"""Rebuild: a bundle from elsewhere in, one for this machine out, from the model that it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pagdeploy.bundle import ENGINE_PLAN, MODEL, SAMPLE_INPUTS, open_bundle
from pagdeploy.engines.base import BuildOptions
from pagdeploy.manifest import PlanInfo
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.build import BuildResult, build


def rebuild(
    bundle: Path,
    output: Path,
    *,
    options: BuildOptions | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> BuildResult:
    """Build a bundle's model again, asked for as before.

    Args:
        bundle: Where model, sample, precision, calibration and profiles come from.
        output: The new bundle; it may be the same.
        options: How the engine is built; what is not asked for is as before, but for libraries
            of the user's own, which are not taken from a bundle.
        progress: Told of the steps.
        changes: Arguments of `build` that are to differ.

    Raises:
        UsageError, EnvironmentProblem, BuildFailed: as `build`.
        IncompatibleArtifact: the bundle is damaged, was changed, or is of another format.
    """
    from pagdeploy.engines import engine_named
    from pagdeploy.measure.ranges import read_ranges

    opened = open_bundle(bundle)
    info = opened.manifest.engine
    before: dict[str, Any] = {
        "engine": info.flavour,
        "precision": info.precision,
        "keep_fp32": info.keep_fp32,
        "inputs": opened.arrays(SAMPLE_INPUTS),
    }
    if info.calibration is not None:
        before["ranges"] = read_ranges(opened.file(info.calibration))
    wanted = options or BuildOptions()
    engine = engine_named(changes.get("engine", info.flavour))
    if info.plan is not None and engine.file == ENGINE_PLAN:
        before |= _shapes(info.plan)
        wanted = _as_asked(wanted, info.plan)
        if engine.name == info.flavour == "tensorrt-rtx" and not wanted.compute_capabilities:
            wanted = replace(wanted, compute_capabilities=info.plan.compute_capabilities)
        if info.plan.timing_cache is not None:
            wanted = replace(wanted, timing_cache_seed=opened.file(info.plan.timing_cache))
    if changes.get("precision", info.precision) != info.precision:
        before.pop("ranges", None)  # what was kept or measured belongs to the old one
        before["keep_fp32"] = ()
    if "calibration" in changes:
        before.pop("ranges", None)
    if "shapes" in changes:  # a sample of that shape is made up
        before.pop("inputs")
    model = opened.file(MODEL)
    return build(model, output, options=wanted, progress=progress, **{**before, **changes})


def _shapes(plan: PlanInfo) -> dict[str, Sequence[Mapping[str, Sequence[int]]]]:
    return {
        f"{word}_shapes": [
            {name: getattr(shape, word) for name, shape in profile.items()}
            for profile in plan.profiles
        ]
        for word in ("min", "opt", "max")
    }


def _as_asked(options: BuildOptions, plan: PlanInfo) -> BuildOptions:
    level = options.hardware_compatibility
    return replace(
        options,
        version_compatible=options.version_compatible or plan.version_compatible,
        hardware_compatibility=level if level != "none" else plan.hardware_compatibility,
        builder_optimization_level=plan.builder_optimization_level
        if options.builder_optimization_level is None
        else options.builder_optimization_level,
        memory_pools={**plan.memory_pools, **options.memory_pools},
    )
