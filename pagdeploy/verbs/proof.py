"""The proof: a lowered model held to the portable one that it was made from.

Three runs on the same inputs. The reference; the engine as deployed, whose decisions are counted
against the reference's; and the engine with the reference's decisions forced in, so that one flip
near a tie does not cascade and the numbers can be held to a bound. Two more on what no input asks
for: random decisions, and logits full of ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.compare import (
    LOWERING_BOUNDS,
    LOWERING_RMS_BOUNDS,
    NETWORK_BOUNDS,
    OUTPUT_BOUNDS,
    OUTPUT_RMS_BOUNDS,
    Comparison,
    compare,
)
from pagdeploy.check.gates import GateComparison, compare_gate
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.unasked import random_decisions, values_of, wrong_ties
from pagdeploy.verbs.verdict import first_failure

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.gates import Gate
    from pagdeploy.verbs.against import Against
    from pagdeploy.verbs.bisect import Fault
    from pagdeploy.verbs.layers import Layer

Arrays = Mapping[str, npt.NDArray[Any]]
Runner = Callable[["onnx.ModelProto", Arrays], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Verification:
    """What was compared, and the verdict.

    Attributes:
        subject: What was verified.
        lowering: Of the engine.
        precision: Of the engine; its bounds were used.
        gates: One comparison a gate.
        outputs: One comparison an output, with the reference's decisions forced in.
        branches: One comparison an output, with random decisions forced into both, so that every
            branch computes somewhere, also those that the inputs never choose.
        ties: Names of gates that do not give an exact tie to the lowest index.
        sample: The stored answers against the reference computed here; empty without a bundle.
        reason: None if everything passed, else the first failure in one sentence.
        plan: The bundle's own plan against one that shows its gates, both running freely; empty
            where the engine is a graph. Where such a plan flips against the reference, this one
            may flip at other pixels, and then only the gates are judged.
        warnings: What the range of a value says against the precision, one sentence each.
        findings: NaNs, infinities and saturation that were met, one sentence each.
        layers: One entry a layer, if that was asked for.
        recognition: The model as the lowering saw it against the portable one, with the layers.
        fault: The first node that is wrong, if that was asked for and there is one.
        builds: Engines that were built to look for it; None if it was not asked for.
        against: Another implementation of the function, if one was asked for.
    """

    subject: str
    lowering: str
    precision: str
    gates: list[GateComparison]
    outputs: list[Comparison]
    branches: list[Comparison]
    ties: list[str]
    sample: list[Comparison]
    reason: str | None
    plan: list[Comparison] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    recognition: list[Comparison] = field(default_factory=list)
    fault: Fault | None = None
    builds: int | None = None
    against: Against | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.reason is None


@dataclass(frozen=True)
class Evidence:
    """The arrays that a verification compared, for who wants to see where it differs.

    Attributes:
        gates: That were compared, as `Verification.gates`.
        computes: For each of them, the branches for which something is computed.
        inputs: By name.
        reference: The reference's outputs, logits and selections, by name.
        free: The engine's as deployed.
        forced: The engine's with the reference's decisions forced in; its own decisions have the
            suffix `graph.gates.OWN`.
    """

    gates: list[Gate]
    computes: list[list[int]]
    inputs: Arrays
    reference: Arrays
    free: Arrays
    forced: Arrays


def verify_models(
    portable: onnx.ModelProto,
    engine: onnx.ModelProto,
    inputs: Arrays,
    *,
    subject: str = "engine",
    lowering: str = "",
    precision: str = "fp32",
    rounded: onnx.ModelProto | None = None,
    stored: Arrays | None = None,
    runner: Runner | None = None,
    deployed: Arrays | None = None,
    on_evidence: Callable[[Evidence], None] | None = None,
    progress: Progress = silent,
) -> Verification:
    """Verify a lowered model against the portable one that it was made from.

    Args:
        portable: With our nodes.
        engine: Lowered; its selections keep their names.
        inputs: By name.
        subject: What to call it in the report.
        lowering: Likewise.
        precision: Of the engine: a key of OUTPUT_BOUNDS.
        rounded: The portable model in that precision; default: as it is. Random decisions drive
            values to where no calibration saw them, so there the two are compared with each
            other, and only the lowering is judged.
        stored: Earlier answers of the reference to the same inputs, by name.
        runner: Runs `engine` and its variants; default: `run_lowered`.
        deployed: Answers of a plan that cannot be opened, held to what `runner` says of the graph
            that it was built from.
        on_evidence: Is handed the arrays behind the verdict.
        progress: Told of steps 2 and 3.
    """
    from pagdeploy.graph.gates import OWN, expose, force_selections, gates_of, thresholds_of
    from pagdeploy.graph.read import graphs_of
    from pagdeploy.graph.rulings import computing_branches
    from pagdeploy.ops.bodies import attach_bodies
    from pagdeploy.verbs.reference import run_reference

    progress("run the reference", 2, 3)
    reference = run_reference(portable, inputs)
    graphs = graphs_of(portable)
    read = {name for graph in graphs for node in graph.node for name in node.input}
    read |= {value.name for graph in graphs for value in graph.output}
    # A gate that nobody asks decides nothing, and lowering drops it.
    gates = [gate for gate in gates_of(portable) if gate.selection in read]
    selections = [gate.selection for gate in gates]
    visible = [name for name in selections if name in values_of(engine)]

    progress("run the engine", 3, 3)
    run = runner or run_lowered
    free = run(expose(engine, visible), inputs)
    decided = {name: reference[name] for name in visible}
    forced_engine = force_selections(expose(engine, [gate.logits for gate in gates]), visible)
    forced = run(forced_engine, {**inputs, **decided})

    if on_evidence is not None:
        shown = [gate for gate in gates if gate.selection in visible]
        computes = computing_branches(portable)
        on_evidence(
            Evidence(
                gates=shown,
                computes=[computes.get(gate.selection, []) for gate in shown],
                inputs=inputs,
                reference=reference,
                free=free,
                forced=forced,
            )
        )
    bounds = OUTPUT_BOUNDS[precision], OUTPUT_RMS_BOUNDS[precision]
    names = [value.name for value in portable.graph.output]
    outputs = [compare(n, forced[n], reference[n], *bounds) for n in names if n in forced]
    thresholds = thresholds_of(portable, gates)
    compared = [
        compare_gate(
            gate.name,
            reference[gate.logits],
            reference[gate.selection],
            free[gate.selection],
            forced.get(gate.selection + OWN, free[gate.selection]),
            precision,
            forced.get(gate.logits, inputs.get(gate.logits)),
            thresholds[gate.name],
        )
        for gate in gates
        if gate.selection in visible
    ]
    branches: list[Comparison] = []
    ties: list[str] = []
    if visible:
        given = {**inputs, **random_decisions(gates, visible, reference)}
        whole = attach_bodies(portable if rounded is None else rounded)
        other = run_lowered(force_selections(whole, visible), given)
        mine = run(force_selections(engine, visible), given)
        if rounded is None:
            close = bounds
        else:
            close = LOWERING_BOUNDS[precision], LOWERING_RMS_BOUNDS[precision]
        branches = [compare(n, mine[n], other[n], *close) for n in names if n in mine]
        ties = wrong_ties(run, engine, gates, visible, {**inputs, **decided}, reference)
    sample = [
        compare(name, reference[name], array, NETWORK_BOUNDS["fp32"])
        for name, array in (stored or {}).items()
        if name in reference and np.issubdtype(array.dtype, np.floating)
    ]
    own = deployed or {}
    plan = [compare(n, own[n], free[n], *bounds) for n in names if n in own and n in free]
    verdict = Verification(
        subject,
        lowering,
        precision,
        compared,
        outputs,
        branches,
        ties,
        sample,
        reason=None,
        plan=plan,
        findings=_not_finite("Output", names, forced, reference)
        + _not_finite("The value", [gate.logits for gate in gates], forced, reference),
    )
    return replace(verdict, reason=first_failure(portable, gates, visible, reference, verdict))


def _not_finite(what: str, names: Sequence[str], engine: Arrays, reference: Arrays) -> list[str]:
    """Where the engine holds NaNs or infinities and the reference numbers, one sentence a value."""
    found = []
    for name in names:
        if name not in engine or engine[name].shape != reference[name].shape:
            continue
        if count := int((~np.isfinite(engine[name]) & np.isfinite(reference[name])).sum()):
            found.append(
                f"{what} {name!r} holds {count} NaNs or infinities where the reference has numbers."
            )
    return found


def run_lowered(model: onnx.ModelProto, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Run a model in stock onnxruntime on those of the inputs that it has."""
    from pagdeploy.engines.ort import OnnxRuntimeEngine

    wanted = {value.name for value in model.graph.input}
    session = OnnxRuntimeEngine().load(model.SerializeToString())
    return session.run({name: array for name, array in inputs.items() if name in wanted})
