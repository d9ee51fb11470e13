"""Verify: does the engine compute the function of the portable model?

A bundle's graph runs as it is. A plan cannot be opened to show its gates or to have decisions
forced into it, so plans that can are built from the same graph, and the bundle's own is held to
them. An ONNX file is verified in a lowering; half precisions are emulated there (see
`passes.emulate_half`), because onnxruntime's CPU kernels do not round every result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import (
    MODEL,
    SAMPLE_INPUTS,
    SAMPLE_OUTPUTS,
    Bundle,
    open_bundle,
    refuse_inside_bundle,
)
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.files import require_writable
from pagdeploy.precision import Precision
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.proof import Evidence, Runner, Verification, run_lowered, verify_models
from pagdeploy.verbs.rounding import as_built, built_precision, in_precision, settle, warnings_for
from pagdeploy.verbs.verify_page import write_report

if TYPE_CHECKING:
    import onnx

    from pagdeploy.verbs.against import Against

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Case:
    """What is compared with what."""

    portable: onnx.ModelProto
    engine: onnx.ModelProto
    rounded: onnx.ModelProto | None
    inputs: Arrays
    lowering: str
    precision: str
    stored: Arrays = field(default_factory=dict)
    warnings: Sequence[str] = ()
    runner: Runner = run_lowered
    deployed: Arrays | None = None
    asked: Precision = Precision()  # noqa: RUF009  (frozen)


def verify(
    subject: Path,
    *,
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    lowering: str = "gather",
    precision: str = "fp32",
    keep_fp32: Sequence[str] = (),
    calibration: Arrays | None = None,
    graph_only: bool = False,
    layers: bool = False,
    bisect: bool = False,
    against: str | None = None,
    factory: str | None = None,
    weights: Path | None = None,
    allow_host_code: bool = False,
    html: Path | None = None,
    command: str | None = None,
    progress: Progress = silent,
) -> Verification:
    """Verify a bundle, or a portable model against one of its lowerings.

    Args:
        subject: A bundle or an ONNX file.
        inputs: By name; default: the bundle's sample, or smooth noise.
        shapes: Of the noise, for an ONNX file.
        lowering: Which one, for an ONNX file.
        precision: Likewise; one of `precision.PRECISIONS`.
        keep_fp32: Likewise; regular expressions of nodes that stay float32.
        calibration: Typical inputs for int8, and for the probe of fp16, where the default is the
            inputs themselves.
        graph_only: Of a bundle with a plan, verify the graph that it was built from, in
            onnxruntime; the plan itself is not run.
        layers: Judge every layer by itself, too.
        bisect: Look for the first node that is wrong.
        against: Compare with another implementation, too: "ort" (the portable model, which is what
            is compared anyway), "dense", "torch", a bundle or an ONNX file.
        factory: Of "torch": as `export` takes it; its code runs.
        weights: Likewise: a checkpoint.
        allow_host_code: As `load`.
        html: Report to write.
        command: For the report: what it comes from; default: the call in Python.
        progress: Told of the steps.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `build` and `load`.
    """
    evidence: list[Evidence] = []
    if html is not None:
        refuse_inside_bundle(html)
        require_writable(html)
    progress(f"read {subject}", 1, 3)
    if subject.is_dir():
        case = _of_bundle(open_bundle(subject), inputs, graph_only, allow_host_code)
    elif graph_only:
        raise UsageError(
            f"The option --graph-only belongs to a bundle, and {subject} is a file.",
            remedy="Leave it out: of an ONNX file, the graph is all that there is.",
        )
    else:
        case = _of_file(subject, inputs, shapes or {}, lowering, precision, keep_fp32, calibration)
    verdict = verify_models(
        case.portable,
        case.engine,
        case.inputs,
        subject=f"the graph of {subject}" if graph_only else str(subject),
        lowering=case.lowering,
        precision=case.precision,
        rounded=case.rounded,
        stored=case.stored,
        runner=case.runner,
        deployed=case.deployed,
        on_evidence=evidence.append if html is not None else None,
        progress=progress,
    )
    verdict = replace(verdict, warnings=list(case.warnings))
    if layers or bisect:
        from pagdeploy.verbs.closer import CloserLook, look_closer

        verdict = look_closer(
            verdict,
            CloserLook(
                case.portable,
                case.engine,
                case.inputs,
                lowering=case.lowering,
                precision=case.asked,
                runner=case.runner,
            ),
            layers=layers,
            bisect=bisect,
            progress=progress,
        )
    if against is not None:
        found = _against(case, subject, against, factory, weights, allow_host_code)
        reason = verdict.reason or (None if found is None else found.reason)
        verdict = replace(verdict, against=found, reason=reason)
    if html is not None:
        write_report(html, verdict, evidence[0], subject, command)
    return verdict


def _against(
    case: _Case,
    subject: Path,
    other: str,
    factory: str | None,
    weights: Path | None,
    allow_host_code: bool,
) -> Against | None:
    """The comparison with another implementation; None if it is the one that is made anyway."""
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.against import Implementation, against, against_torch, of_file

    if (other == "torch") != (factory is not None) or (weights is not None and factory is None):
        raise UsageError(
            "The comparison with PyTorch needs the model's factory, and no other one takes it.",
            remedy="Write --against torch --factory file.py:factory, and --weights if it has some.",
        )

    def of(case: _Case, name: str) -> Implementation:
        shown = case.portable, case.engine, case.precision, case.runner, case.deployed
        return Implementation(name, *shown)

    mine = of(case, str(subject))
    if other == "ort":
        return None
    if factory is not None:
        return against_torch(mine, factory, weights, case.inputs)
    if other == "dense":
        dense = lower(case.portable, "dense", precision=case.asked, emulated=True)
        twin = Implementation("the dense lowering", case.portable, dense, case.precision)
        return against(mine, twin, case.inputs)
    path = Path(other)
    if path.is_dir():
        theirs = _of_bundle(open_bundle(path), case.inputs, False, allow_host_code)
        return against(mine, of(theirs, other), case.inputs)
    if not path.is_file():
        raise UsageError(
            f"There is nothing to compare with at {other}.",
            remedy="Write --against ort, dense, torch, or the path of a bundle or an ONNX file.",
        )
    return against(mine, of_file(path), case.inputs)


def _of_bundle(
    bundle: Bundle, inputs: Arrays | None, graph_only: bool, allow_host_code: bool
) -> _Case:
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.read import read_model

    info = bundle.manifest.engine
    portable = read_model(bundle.file(MODEL))
    given = bundle.arrays(SAMPLE_INPUTS) if inputs is None else inputs
    case = _Case(
        portable=portable,
        engine=portable,
        rounded=as_built(bundle, portable),
        inputs=given,
        lowering=info.lowering,
        precision=info.precision,
        asked=built_precision(bundle),
        stored=bundle.arrays(SAMPLE_OUTPUTS) if inputs is None else {},
    )
    if info.plan is not None:
        return _of_plan(bundle, case, graph_only, allow_host_code)
    case = replace(case, engine=read_model(bundle.file(info.file)))
    if not graph_only:
        return replace(case, runner=_runner_of(bundle, allow_host_code))
    if info.flavour == OnnxRuntimeEngine.name:
        raise UsageError(
            f"The engine of {bundle.path} is a graph, which runs here.",
            remedy="Leave --graph-only out.",
        )
    return case


def _runner_of(bundle: Bundle, host_code: bool) -> Runner:
    """Runs variants of a graph where the bundle's engine runs."""
    from pagdeploy.engines import engine_named
    from pagdeploy.verbs.session import op_libraries

    engine = engine_named(bundle.manifest.engine.flavour)
    if problem := engine.runnable():
        raise EnvironmentProblem(f"{bundle.path} needs {engine.name}.", remedy=problem)
    libraries = op_libraries(bundle, host_code)

    def run(model: onnx.ModelProto, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        wanted = {value.name for value in model.graph.input}
        session = engine.load(model.SerializeToString(), plugins=libraries)
        return session.run({name: array for name, array in inputs.items() if name in wanted})

    return run


def _of_plan(bundle: Bundle, case: _Case, graph_only: bool, allow_host_code: bool) -> _Case:
    from pagdeploy.ops.bodies import attach_bodies
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.plan_runner import PlanRunner
    from pagdeploy.verbs.session import open_session

    asked = built_precision(bundle)
    if graph_only:
        graph = lower(case.portable, case.lowering, precision=asked, emulated=True)
        return replace(case, engine=attach_bodies(graph))
    # First: it is refused where there is no GPU, and what follows would only take time.
    session = open_session(bundle, host_code=allow_host_code)
    return replace(
        case,
        engine=lower(case.portable, case.lowering, precision=asked),
        runner=PlanRunner(bundle, allow_host_code),
        deployed=session.run(case.inputs),
    )


def _of_file(
    path: Path,
    inputs: Arrays | None,
    shapes: Mapping[str, Sequence[int]],
    lowering: str,
    precision: str,
    keep_fp32: Sequence[str],
    calibration: Arrays | None,
) -> _Case:
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.source import read_source, recognition_note

    source = read_source(path)
    portable, given = source.portable, inputs
    if given is None:
        given = made_up_inputs(portable, example_shapes(portable, shapes))
    notes = recognition_note(source, given)
    integers = precision == "int8" and lowering != "plugin"  # else as TensorRT is given it
    asked = settle(portable, precision, keep_fp32, calibration, integer_kernels=integers)
    return _Case(
        portable=portable,
        engine=lower(portable, lowering, precision=asked, emulated=True),
        rounded=in_precision(portable, asked),
        inputs=given,
        lowering=lowering,
        precision=precision,
        asked=asked,
        warnings=[
            *notes,
            *warnings_for(portable, asked, given if calibration is None else calibration),
        ],
    )
