"""Build: a portable model in, a bundle that runs out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.bundle import (
    CALIBRATION,
    MODEL,
    PLUGINS,
    SAMPLE_INPUTS,
    SAMPLE_OUTPUTS,
    TIMING_CACHE,
    open_bundle,
    seal,
    write_arrays,
    writing_bundle,
)
from pagdeploy.engines.base import BuildOptions
from pagdeploy.errors import EnvironmentProblem
from pagdeploy.files import sha256_of
from pagdeploy.manifest import EngineInfo, Manifest
from pagdeploy.precision import Precision
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.job import (
    CHOSEN,
    Arrays,
    Job,
    Ranges,
    Shapes,
    candidates_of,
    choose_engine,
    options_for,
    require_useful,
    settle_precision,
)

if TYPE_CHECKING:
    import onnx

    from pagdeploy.engines.base import Built, Engine, Session
    from pagdeploy.verbs.choose import RegionCost

_CHOICE_ROUNDS, _CHOICE_SECONDS = 7, 8.0
_REQUESTS = 8  # of the calibration data, that densities are measured with


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    Attributes:
        path: Of the bundle.
        manifest: As written.
        warnings: What the user should know, one sentence each.
    """

    path: Path
    manifest: Manifest
    warnings: list[str] = field(default_factory=list)


def build(
    model: Path,
    output: Path,
    *,
    engine: str = "auto",
    lowering: str = "auto",
    precision: str = "fp32",
    keep_fp32: Sequence[str] = (),
    calibration: Arrays | None = None,
    ranges: Ranges | None = None,
    shapes: Shapes | None = None,
    min_shapes: Sequence[Shapes] = (),
    opt_shapes: Sequence[Shapes] = (),
    max_shapes: Sequence[Shapes] = (),
    inputs: Arrays | None = None,
    options: BuildOptions | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build a bundle from a portable model.

    Args:
        model: The ONNX file.
        output: The bundle's folder, by custom NAME.pagbundle; replaced if it is a bundle.
        engine: Name of the engine; "auto" is TensorRT where it can be used, else onnxruntime.
        lowering: One of the engine's, or "auto", which times all on the sample and keeps the
            fastest.
        precision: "fp32", "tf32", "fp16", "bf16" or "int8".
        keep_fp32: Regular expressions of nodes that stay float32.
        calibration: Typical requests, stacked in their first axis: lowerings are chosen by the
            densities that they cause, int8 is scaled by their ranges, and fp16 is checked with
            them. The default is the sample, if it is given, but not for int8.
        ranges: What an earlier calibration measured, instead.
        shapes: Shape of the sample by input; default: what the model was exported with.
        min_shapes: Smallest shapes, by input, one mapping an optimization profile.
        opt_shapes: Likewise the expected ones; default: the largest, else `shapes`. The first are
            the default of `shapes`.
        max_shapes: Likewise the largest ones.
        inputs: The sample itself, by input; default: smooth noise.
        options: How the engine is built; profiles, precision and progress are set here.
        progress: Told of the steps.

    Raises:
        UsageError: a path, engine, lowering, precision, shape or input is wrong.
        EnvironmentProblem: the engine's runtime is not installed, or finds no GPU.
        IncompatibleArtifact: the model cannot be used.
        BuildFailed: the engine refuses it.
    """
    chosen = choose_engine(engine, precision)
    require_useful(chosen, precision, calibration, options)
    candidates = candidates_of(chosen, lowering)
    job = Job(
        model=model,
        engine=chosen,
        candidates=candidates,
        precision=precision,
        keep_fp32=tuple(keep_fp32),
        calibration=calibration,
        ranges=ranges,
        shapes={**dict(*max_shapes[:1]), **dict(*opt_shapes[:1]), **(shapes or {})},
        bounds=(min_shapes, opt_shapes, max_shapes),
        inputs=inputs,
        options=options or BuildOptions(),
        progress=progress,
    )
    with writing_bundle(output) as folder:  # first: an output that cannot be written fails early
        warnings = _fill(folder, job)
    return BuildResult(output, open_bundle(output).manifest, warnings)


def _fill(folder: Path, job: Job) -> list[str]:
    """Make every file of the bundle; returns warnings for the user."""
    from pagdeploy.graph.describe import describe
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.record import make_manifest, told_of
    from pagdeploy.verbs.reference import run_reference
    from pagdeploy.verbs.source import read_source, recognition_note

    engine, total = job.engine, 4 + len(job.candidates)
    job.progress(f"read {job.model}", 1, total)
    source = read_source(job.model)
    portable = source.portable
    warnings = []
    shapes = example_shapes(portable, job.shapes)
    inputs = job.inputs
    if inputs is None:
        inputs = made_up_inputs(portable, shapes)
        warnings.append("Densities and times are of made-up noise; give --input for real ones.")
    warnings += recognition_note(source, inputs)
    options = options_for(portable, job, {name: array.shape for name, array in inputs.items()})

    job.progress("run the reference on the sample", 2, total)
    reference = run_reference(portable, inputs)
    precision, ranges, notes = settle_precision(portable, job, inputs)
    warnings += notes

    choices = {name: _choose(portable, job, name, total) for name in job.candidates}
    lowered: dict[str, onnx.ModelProto] = {}
    built: dict[str, Built] = {}
    for number, name in enumerate(job.candidates):
        step = 3 + number

        def builder_step(phase: str, k: int, n: int, step: int = step) -> None:
            job.progress(f"{phase[:1].lower()}{phase[1:]}, {k} of {n}", step, total)

        job.progress(f"lower to {name} and build", step, total)
        lowered[name] = lower(choices[name][0], name, precision=precision)
        describe(lowered[name], portable, told_of(portable, reference, choices[name][1]))
        try:
            built[name] = engine.build(
                lowered[name].SerializeToString(), replace(options, progress=builder_step)
            )
        except EnvironmentProblem as problem:  # a plugin library, which another lowering can spare
            if number + 1 == len(job.candidates) and not built:
                raise
            warnings.append(f"The lowering {name} is left out. {problem}")

    job.progress("time the candidates", total - 1, total)
    measured: dict[str, float] = {}
    if reason := engine.runnable():
        warnings.append(f"The engine was not run here. {reason}")
    else:
        measured = _measure(engine, built, inputs)
    chosen = min(measured, key=lambda name: measured[name], default=next(iter(built)))

    job.progress("write the bundle", total, total)
    write_arrays(folder / SAMPLE_INPUTS, inputs)
    write_arrays(folder / SAMPLE_OUTPUTS, reference)
    original = job.model.read_bytes()
    if source.is_foreign:
        describe(portable)
    model = portable.SerializeToString() if source.is_foreign else original
    (folder / MODEL).write_bytes(model)
    facts = {"lowering": chosen, "measured_ms": measured}
    info = _write_engine(folder, engine, built[chosen], precision, ranges, facts)
    digest = sha256_of(job.model)
    manifest = make_manifest(
        portable, lowered[chosen], info, inputs, reference, choices[chosen][1], digest
    )
    seal(folder, manifest)
    return warnings + list(built[chosen].notes)


def _choose(
    portable: onnx.ModelProto, job: Job, lowering: str, total: int
) -> tuple[onnx.ModelProto, list[RegionCost]]:
    """The model with a choice for each gated region, where there is something to choose by."""
    from pagdeploy.verbs.calibrate import requests_of
    from pagdeploy.verbs.choose import choose_lowerings

    if lowering != CHOSEN or job.typical is None or job.engine.runnable() is not None:
        return portable, []
    requests = list(itertools.islice(requests_of(portable, job.typical), _REQUESTS))
    return choose_lowerings(
        portable,
        requests,
        job.engine,
        progress=lambda what, k, n: job.progress(f"{what}, {k} of {n}", 2, total),
    )


def _write_engine(
    folder: Path,
    engine: Engine,
    built: Built,
    precision: Precision,
    ranges: Ranges,
    facts: Mapping[str, object],
) -> EngineInfo:
    """Write what runs and what it needs; returns how the manifest tells of it."""
    from pagdeploy.measure.ranges import write_ranges

    (folder / engine.file).write_bytes(built.content)
    plan = built.plan
    names = [f"{PLUGINS}/{path.name}" for path in built.plugins]
    if names:
        (folder / PLUGINS).mkdir()
    for name, path in zip(names, built.plugins, strict=True):
        (folder / name).write_bytes(path.read_bytes())
    if plan is not None:
        if built.timing_cache is not None:
            (folder / TIMING_CACHE).write_bytes(built.timing_cache)
        cache = None if built.timing_cache is None else TIMING_CACHE
        plan = plan.model_copy(update={"plugins": names, "timing_cache": cache})
    quantized = precision.name == "int8"
    if quantized:
        write_ranges(folder / CALIBRATION, ranges)
    told = {
        "flavour": engine.name,
        "version": engine.version(),
        "file": engine.file,
        "precision": precision.name,
        "keep_fp32": list(precision.keep_fp32),
        "calibration": CALIBRATION if quantized else None,
        "libraries": names if plan is None else [],
        "plan": plan,
    }
    return EngineInfo.model_validate({**told, **facts})


def _measure(engine: Engine, built: Mapping[str, Built], inputs: Arrays) -> dict[str, float]:
    from pagdeploy.measure.timing import time_in_turn

    sessions: dict[str, Session] = {
        name: engine.load(
            each.content, plan=each.plan, plugins=each.plugins, taking_turns=True, host_code=True
        )
        for name, each in built.items()
    }
    runs = {name: lambda s=session: s.run(inputs) for name, session in sessions.items()}
    timings = time_in_turn(runs, rounds=_CHOICE_ROUNDS, budget_seconds=_CHOICE_SECONDS)
    return {name: round(timing.median_ms, 3) for name, timing in timings.items()}
