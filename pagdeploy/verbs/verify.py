"""Verify: does the engine compute the function of the portable model?

Three runs on the same inputs. The reference; the engine as deployed, whose decisions are counted
against the reference's; and the engine with the reference's decisions forced in, so that one flip
near a tie does not cascade and the numbers can be held to a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import SAMPLE_INPUTS, SAMPLE_OUTPUTS, open_bundle
from pagdeploy.check.compare import NETWORK_BOUNDS, Comparison, compare
from pagdeploy.check.gates import GateComparison, compare_gate
from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.gates import Gate

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Verification:
    """What was compared, and the verdict.

    Attributes:
        subject: What was verified.
        lowering: Of the engine.
        precision: Of the engine; its bounds were used.
        gates: One comparison a gate.
        outputs: One comparison an output, with the reference's decisions forced in.
        sample: The stored answers against the reference computed here; empty without a bundle.
        reason: None if everything passed, else the first failure in one sentence.
    """

    subject: str
    lowering: str
    precision: str
    gates: list[GateComparison]
    outputs: list[Comparison]
    sample: list[Comparison]
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.reason is None


def verify(
    subject: Path,
    *,
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    lowering: str = "gather",
    progress: Progress = silent,
) -> Verification:
    """Verify a bundle, or a portable model against one of its lowerings.

    Args:
        subject: A bundle or an ONNX file.
        inputs: By name; default: the bundle's sample, or smooth noise.
        shapes: Of the noise, for an ONNX file.
        lowering: Which one, for an ONNX file.
        progress: Told of the steps.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `build`.
    """
    from pagdeploy.graph.read import read_model
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs

    progress(f"read {subject}", 1, 3)
    stored: Arrays = {}
    precision = "float32"
    if subject.is_dir():
        bundle = open_bundle(subject)
        info = bundle.manifest.engine
        lowering, precision = info.lowering, info.precision
        if precision not in NETWORK_BOUNDS:
            raise IncompatibleArtifact(
                f"{subject} is of the unknown precision {precision!r}.",
                remedy="Update pagdeploy, or build the bundle again with this one.",
            )
        portable = read_model(bundle.file("model.onnx"))
        engine = read_model(bundle.file(info.file))
        if inputs is None:
            inputs, stored = bundle.arrays(SAMPLE_INPUTS), bundle.arrays(SAMPLE_OUTPUTS)
    else:
        portable = read_model(subject)
        engine = lower(portable, lowering)
        if inputs is None:
            inputs = made_up_inputs(portable, example_shapes(portable, shapes or {}))
    return verify_models(
        portable,
        engine,
        inputs,
        subject=str(subject),
        lowering=lowering,
        precision=precision,
        stored=stored,
        progress=progress,
    )


def verify_models(
    portable: onnx.ModelProto,
    engine: onnx.ModelProto,
    inputs: Arrays,
    *,
    subject: str = "engine",
    lowering: str = "",
    precision: str = "float32",
    stored: Arrays | None = None,
    progress: Progress = silent,
) -> Verification:
    """Verify a lowered model against the portable one that it was made from.

    Args:
        portable: With our nodes.
        engine: Lowered; its selections keep their names.
        inputs: By name.
        subject: What to call it in the report.
        lowering: Likewise.
        precision: Of the engine: a key of NETWORK_BOUNDS.
        stored: Earlier answers of the reference to the same inputs, by name.
        progress: Told of steps 2 and 3.
    """
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.gates import OWN, expose, force_selections, gates_of
    from pagdeploy.graph.read import graphs_of
    from pagdeploy.verbs.reference import run_reference

    progress("run the reference", 2, 3)
    reference = run_reference(portable, inputs)
    graphs = graphs_of(portable)
    read = {name for graph in graphs for node in graph.node for name in node.input}
    read |= {value.name for graph in graphs for value in graph.output}
    # A gate that nobody asks decides nothing, and lowering drops it.
    gates = [gate for gate in gates_of(portable) if gate.selection in read]
    selections = [gate.selection for gate in gates]
    visible = [name for name in selections if name in _values(engine)]

    progress("run the engine", 3, 3)
    runtime = OnnxRuntimeEngine()
    free = runtime.load(expose(engine, visible).SerializeToString()).run(inputs)
    logits = [gate.logits for gate in gates]
    forced_model = force_selections(expose(engine, logits), visible)
    forced_inputs = {**inputs, **{name: reference[name] for name in visible}}
    wanted = {value.name for value in forced_model.graph.input}
    forced = runtime.load(forced_model.SerializeToString()).run(
        {name: array for name, array in forced_inputs.items() if name in wanted}
    )

    bound = NETWORK_BOUNDS[precision]
    outputs = [
        compare(value.name, forced[value.name], reference[value.name], bound)
        for value in portable.graph.output
        if value.name in forced
    ]
    compared = [
        compare_gate(
            gate.name,
            reference[gate.logits],
            reference[gate.selection],
            free[gate.selection],
            forced.get(gate.selection + OWN, free[gate.selection]),
            precision,
            forced.get(gate.logits, inputs.get(gate.logits)),
        )
        for gate in gates
        if gate.selection in visible
    ]
    sample = [
        compare(name, reference[name], array, bound)
        for name, array in (stored or {}).items()
        if name in reference and np.issubdtype(array.dtype, np.floating)
    ]
    reason = _first_failure(portable, gates, visible, reference, compared, outputs, sample)
    return Verification(subject, lowering, precision, compared, outputs, sample, reason)


def _first_failure(
    portable: onnx.ModelProto,
    gates: Sequence[Gate],
    visible: Sequence[str],
    reference: Arrays,
    compared: Sequence[GateComparison],
    outputs: Sequence[Comparison],
    sample: Sequence[Comparison],
) -> str | None:
    for gate in gates:
        if np.isnan(reference[gate.logits]).any():
            return f"The logits of gate {gate.name!r} hold NaN in the reference itself."
        if gate.selection not in visible:
            return f"The engine does not show the decisions of gate {gate.name!r}."
    for decided in compared:
        if decided.misread and not decided.unexplained:
            return (
                f"Gate {decided.name!r} decides {decided.misread} of {decided.pixels} pixels not as"
                " its own logits say: the lowest index of the largest one."
            )
        if not decided.passed:
            return (
                f"Gate {decided.name!r} decides {decided.unexplained} of {decided.pixels} pixels"
                f" differently, by a margin of up to {decided.worst_margin:.3g} in the logits"
                f" (the bound is {decided.margin_bound:.3g})."
            )
    missing = {value.name for value in portable.graph.output} - {o.name for o in outputs}
    if missing:
        return f"The engine lacks the output {sorted(missing)[0]!r}."
    for output in outputs:
        if not output.passed:
            return (
                f"Output {output.name!r} differs by {output.error:.3g} of its scale (the bound is"
                f" {output.bound:.3g}), most at {output.worst}."
            )
    for stored in sample:
        if not stored.passed:
            return (
                f"The reference computes {stored.name!r} otherwise on this machine than where the"
                f" bundle was built: {stored.error:.3g} of its scale."
            )
    return None


def _values(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}
