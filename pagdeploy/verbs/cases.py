"""What a verification compares with what: of a bundle, of a plan, of an ONNX file.

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

from pagdeploy.bundle import MODEL, SAMPLE_INPUTS, SAMPLE_OUTPUTS, Bundle
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.precision import Precision
from pagdeploy.verbs.proof import Runner, run_lowered
from pagdeploy.verbs.rounding import as_built, built_precision, in_precision, settle, warnings_for

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """What is compared with what.

    Attributes:
        portable: The reference, in our ops.
        engine: Its lowering.
        rounded: The portable model in the engine's precision; None if that is float32.
        inputs: By name.
        lowering: Of the engine.
        precision: Its name.
        stored: Earlier answers of the reference to these inputs, by name.
        warnings: What the user should know, one sentence each.
        runner: Runs the engine and its variants.
        deployed: Answers of a plan, which is not opened.
        asked: The precision in full.
    """

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


def case_of_bundle(
    bundle: Bundle, inputs: Arrays | None, graph_only: bool, allow_host_code: bool
) -> Case:
    """A bundle's engine and the portable model in it.

    Args:
        bundle: Opened.
        inputs: By name; None takes the bundle's sample.
        graph_only: Of a plan, take the graph that it was built from.
        allow_host_code: As `load`.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact: as `load`.
    """
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.read import read_model

    info = bundle.manifest.engine
    portable = read_model(bundle.file(MODEL))
    given = bundle.arrays(SAMPLE_INPUTS) if inputs is None else inputs
    case = Case(
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


def _of_plan(bundle: Bundle, case: Case, graph_only: bool, allow_host_code: bool) -> Case:
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


def case_of_file(
    path: Path,
    inputs: Arrays | None,
    shapes: Mapping[str, Sequence[int]],
    lowering: str,
    precision: str,
    keep_fp32: Sequence[str],
    calibration: Arrays | None,
) -> Case:
    """A portable model, or one by others, and one of its lowerings.

    Args:
        path: ONNX file.
        inputs: By name; None makes some up.
        shapes: Of made-up inputs.
        lowering: Which one.
        precision: One of `precision.PRECISIONS`.
        keep_fp32: Regular expressions of nodes that stay float32.
        calibration: Typical inputs.

    Raises:
        UsageError, IncompatibleArtifact, VerificationFailed: as `read_source` and `settle`.
    """
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
    return Case(
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
