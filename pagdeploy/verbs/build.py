"""Build: a portable model in, a bundle that runs out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import (
    ENGINE_ONNX,
    MODEL,
    SAMPLE_INPUTS,
    SAMPLE_OUTPUTS,
    open_bundle,
    seal,
    write_arrays,
    writing_bundle,
)
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.files import sha256_of
from pagdeploy.manifest import EngineInfo, GateInfo, Host, Manifest, OpInfo, Tensor
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx

    from pagdeploy.engines.base import Engine, Session

Arrays = Mapping[str, npt.NDArray[Any]]
_CHOICE_ROUNDS, _CHOICE_SECONDS = 7, 8.0


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
    engine: str = "onnxruntime",
    lowering: str = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Arrays | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build a bundle from a portable model.

    Args:
        model: The ONNX file.
        output: The bundle's folder, by custom NAME.pagbundle; replaced if it is a bundle.
        engine: Name of the engine.
        lowering: "gather", "dense", or "auto", which times both on the sample and keeps the
            faster.
        shapes: Shape of the sample by input; default: what the model was exported with.
        inputs: The sample itself, by input; default: smooth noise.
        progress: Told of the steps.

    Raises:
        UsageError: a path, engine, lowering, shape or input is wrong.
        EnvironmentProblem: the engine's runtime is not installed.
        IncompatibleArtifact: the model cannot be used.
        BuildFailed: the engine refuses it.
    """
    from pagdeploy.engines import engine_named

    back_end = engine_named(engine)
    if problem := back_end.available():
        raise EnvironmentProblem(f"The engine {engine} cannot be used here.", remedy=problem)
    candidates = _candidates(back_end, lowering)
    with writing_bundle(output) as folder:  # first: an output that cannot be written fails early
        warnings = _fill(folder, model, back_end, candidates, shapes or {}, inputs, progress)
    return BuildResult(output, open_bundle(output).manifest, warnings)


def _fill(
    folder: Path,
    model: Path,
    engine: Engine,
    candidates: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    inputs: Arrays | None,
    progress: Progress,
) -> list[str]:
    """Make every file of the bundle; returns warnings for the user."""
    from pagdeploy.graph.read import read_model
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.reference import run_reference

    total = 4 + len(candidates)
    progress(f"read {model}", 1, total)
    portable = read_model(model)
    warnings = []
    if inputs is None:
        inputs = made_up_inputs(portable, example_shapes(portable, shapes))
        warnings.append("Densities and times are of made-up noise; give --input for real ones.")

    progress("run the reference on the sample", 2, total)
    reference = run_reference(portable, inputs)

    lowered: dict[str, onnx.ModelProto] = {}
    sessions: dict[str, Session] = {}
    for number, name in enumerate(candidates):
        progress(f"lower to {name} and load", 3 + number, total)
        lowered[name] = lower(portable, name)
        sessions[name] = engine.load(lowered[name].SerializeToString(), taking_turns=True)

    progress("time the candidates", total - 1, total)
    measured = _measure(sessions, inputs)
    chosen = min(measured, key=lambda name: measured[name])

    progress("write the bundle", total, total)
    (folder / MODEL).write_bytes(model.read_bytes())
    (folder / ENGINE_ONNX).write_bytes(lowered[chosen].SerializeToString())
    write_arrays(folder / SAMPLE_INPUTS, inputs)
    write_arrays(folder / SAMPLE_OUTPUTS, reference)
    info = EngineInfo(
        flavour=engine.name,
        version=engine.version(),
        file=ENGINE_ONNX,
        lowering=chosen,
        precision="fp32",
        measured_ms=measured,
    )
    manifest = _manifest(portable, lowered[chosen], info, sessions[chosen], inputs, reference)
    seal(folder, manifest.model_copy(update={"source_sha256": sha256_of(model)}))
    return warnings


def _manifest(
    portable: onnx.ModelProto,
    lowered: onnx.ModelProto,
    engine: EngineInfo,
    session: Session,
    inputs: Arrays,
    reference: Arrays,
) -> Manifest:
    """What is known before the files are sealed."""
    from pagdeploy import __version__
    from pagdeploy.graph.gates import gates_of

    return Manifest(
        pagdeploy_version=__version__,
        engine=engine,
        host=Host(
            system=f"{platform.system()} {platform.release()}",
            machine=platform.machine(),
            python=platform.python_version(),
        ),
        source_sha256="",
        inputs=[_tensor(info, inputs[info.name]) for info in session.inputs],
        outputs=[_tensor(info, reference[info.name]) for info in session.outputs],
        gates=[
            GateInfo(
                name=gate.name,
                logits=gate.logits,
                selection=gate.selection,
                density=_density(reference, gate.logits, gate.selection),
            )
            for gate in gates_of(portable)
        ],
        ops=_ops(portable, lowered),
        files={},
    )


def _candidates(engine: Engine, lowering: str) -> tuple[str, ...]:
    if lowering == "auto":
        return engine.lowerings
    if lowering not in engine.lowerings:
        raise UsageError(
            f"The engine {engine.name} has no lowering {lowering!r}.",
            remedy=f"Choose one of: auto, {', '.join(engine.lowerings)}.",
        )
    return (lowering,)


def _measure(sessions: Mapping[str, Session], inputs: Arrays) -> dict[str, float]:
    from pagdeploy.measure.timing import time_in_turn

    runs = {name: lambda s=session: s.run(inputs) for name, session in sessions.items()}
    timings = time_in_turn(runs, rounds=_CHOICE_ROUNDS, budget_seconds=_CHOICE_SECONDS)
    return {name: round(timing.median_ms, 3) for name, timing in timings.items()}


def _tensor(info: Any, sample: npt.NDArray[Any]) -> Tensor:
    finite = sample[np.isfinite(sample)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Tensor(
        name=info.name,
        dtype=info.dtype,
        shape=list(info.shape),
        sample_shape=list(sample.shape),
        sample_range=(low, high),
    )


def _density(reference: Arrays, logits: str, selection: str) -> list[float]:
    branches = reference[logits].shape[1]
    counts = np.bincount(reference[selection].ravel(), minlength=branches)
    return [round(float(count) / max(1, reference[selection].size), 4) for count in counts]


def _ops(portable: onnx.ModelProto, lowered: onnx.ModelProto) -> list[OpInfo]:
    from pagdeploy.ops import DOMAIN

    # A pass names what it makes after the node that it replaces.
    gathered = {n.name.rsplit("/", 1)[0] for n in lowered.graph.node if n.op_type == "ScatterND"}
    return [
        OpInfo(name=node.name, lowering="gather" if node.name in gathered else "dense")
        for node in portable.graph.node
        if node.domain == DOMAIN and node.op_type == "PerforatedConv"
    ]
