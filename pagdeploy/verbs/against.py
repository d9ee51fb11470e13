"""Against: an engine held to another implementation of the same function.

Both run freely, each with its own decisions, and, where their gates have the same names, with the
reference's decisions forced into both: only then can a bound hold, since one flip near a tie
changes what follows. Each may differ from the function by its own bound, so the two may by the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.compare import (
    OUTPUT_BOUNDS,
    OUTPUT_RMS_BOUNDS,
    Comparison,
    compare,
)
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.verbs.proof import Runner, run_lowered

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Implementation:
    """Something that computes the function.

    Attributes:
        name: What to call it.
        portable: In our ops, with its gates.
        engine: What runs.
        precision: Of it.
        runner: Runs it and its variants.
        deployed: What it answers as deployed, where that is a plan.
    """

    name: str
    portable: onnx.ModelProto
    engine: onnx.ModelProto
    precision: str = "fp32"
    runner: Runner = run_lowered
    deployed: Arrays | None = None


@dataclass(frozen=True)
class Against:
    """An engine compared with another implementation.

    Attributes:
        other: What it was compared with.
        free: One comparison an output, each side with its own decisions.
        forced: Likewise, with the same decisions on both sides; empty where that cannot be.
        flips: Decisions that differ when both run freely, by gate that both have.
        note: Why nothing was forced; None if something was, or there are no gates.
        reason: None if the two agree, else the first difference in one sentence.
    """

    other: str
    free: list[Comparison]
    forced: list[Comparison]
    flips: dict[str, int] = field(default_factory=dict)
    note: str | None = None
    reason: str | None = None


def of_file(path: Path) -> Implementation:
    """An ONNX file in stock onnxruntime, its gates recognised.

    Raises:
        UsageError, IncompatibleArtifact: as `read_model`.
    """
    from pagdeploy.ops.bodies import attach_bodies
    from pagdeploy.verbs.source import read_source

    portable = read_source(path).portable
    return Implementation(str(path), portable, attach_bodies(portable))


def against(mine: Implementation, other: Implementation, inputs: Arrays) -> Against:
    """Compare two implementations.

    Args:
        mine: The engine.
        other: What it is held to.
        inputs: By name.

    Raises:
        UsageError: their inputs or outputs have other names, or the inputs do not fit.
    """
    from pagdeploy.graph.gates import expose, force_selections, gates_of
    from pagdeploy.verbs.reference import run_reference

    _require_same_interface(mine, other)
    gates = {gate.name: gate for gate in gates_of(mine.portable)}
    others = {gate.name: gate for gate in gates_of(other.portable)}
    shown = {name: gate.selection for name, gate in gates.items() if _has(mine, gate.selection)}
    theirs = {name: g.selection for name, g in others.items() if _has(other, g.selection)}
    common = [name for name in shown if name in theirs]

    a = mine.runner(expose(mine.engine, list(shown.values())), inputs)
    b = other.runner(expose(other.engine, list(theirs.values())), inputs)
    free = _compared(mine, other, {**a, **(mine.deployed or {})}, {**b, **(other.deployed or {})})
    flips = {name: _flips(a[shown[name]], b[theirs[name]]) for name in common}

    forced: list[Comparison] = []
    note = None
    if gates.keys() == others.keys() == set(common):
        decided = run_reference(mine.portable, inputs)
        given = {name: decided[gates[name].selection] for name in common}
        one = force_selections(mine.engine, list(shown.values()))
        two = force_selections(other.engine, list(theirs.values()))
        forced = _compared(
            mine,
            other,
            mine.runner(one, {**inputs, **{shown[n]: d for n, d in given.items()}}),
            other.runner(two, {**inputs, **{theirs[n]: d for n, d in given.items()}}),
        )
    else:
        note = f"The gates of {other.name} are others, so no decision was forced into both."
    return Against(other.name, free, forced, flips, note, _reason(other.name, forced or free))


def against_torch(
    mine: Implementation, factory: str, weights: Path | None, inputs: Arrays
) -> Against:
    """Compare an engine with the PyTorch model that it comes from.

    PyTorch shows no decisions: it is also held to the engine with the portable model's forced in.

    Args:
        mine: The engine.
        factory: As `export` takes it; its code runs.
        weights: A checkpoint.
        inputs: By name.

    Raises:
        UsageError: the model cannot be made, or takes or returns another number of tensors.
        EnvironmentProblem: torch is not installed.
        IncompatibleArtifact: the checkpoint does not fit.
    """
    from pagdeploy.graph.gates import force_selections, gates_of
    from pagdeploy.verbs.reference import run_reference

    told = _torch_answers(mine.portable, factory, weights, inputs)
    other = Implementation(f"PyTorch ({factory})", mine.portable, mine.engine)
    answers = mine.deployed or mine.runner(mine.engine, inputs)
    free = _compared(mine, other, answers, told)
    shown = [g.selection for g in gates_of(mine.portable) if _has(mine, g.selection)]
    forced: list[Comparison] = []
    if shown:
        decided = run_reference(mine.portable, inputs)
        given = {**inputs, **{name: decided[name] for name in shown}}
        forced = _compared(
            mine, other, mine.runner(force_selections(mine.engine, shown), given), told
        )
    return Against(other.name, free, forced, reason=_reason(other.name, forced or free))


def _torch_answers(
    portable: onnx.ModelProto, factory: str, weights: Path | None, inputs: Arrays
) -> dict[str, npt.NDArray[Any]]:
    try:
        from pagdeploy.exporters import evaluation, request
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "safetensors"):
            raise
        raise EnvironmentProblem.missing_extra(missing.name, "export", "PyTorch") from None

    module, _ = request.load_model(factory, weights)
    if not request.is_program(module):
        module = evaluation.evaluation_copy(module)  # type: ignore[arg-type]
    names = [value.name for value in portable.graph.input]
    answers = evaluation.answers_to(module, [inputs[name] for name in names])
    outputs = [value.name for value in portable.graph.output]
    if len(answers) != len(outputs):
        raise UsageError(
            f"{factory} returns {len(answers)} tensors, and the bundle has {len(outputs)} outputs"
            f" ({', '.join(outputs)}).",
            remedy="Name the factory that the bundle was exported from.",
        )
    return dict(zip(outputs, answers, strict=True))


def _compared(
    mine: Implementation, other: Implementation, a: Arrays, b: Arrays
) -> list[Comparison]:
    precisions = (mine.precision, other.precision)
    bounds = (
        sum(OUTPUT_BOUNDS[name] for name in precisions),
        sum(OUTPUT_RMS_BOUNDS[name] for name in precisions),
    )
    names = [value.name for value in mine.portable.graph.output]
    return [compare(name, a[name], b[name], *bounds) for name in names]


def _require_same_interface(mine: Implementation, other: Implementation) -> None:
    for what, field_name in (("inputs", "input"), ("outputs", "output")):
        ours, theirs = (
            [value.name for value in getattr(each.portable.graph, field_name)]
            for each in (mine, other)
        )
        if set(ours) != set(theirs):
            raise UsageError(
                f"{other.name} has the {what} {', '.join(theirs)}, and {mine.name} has"
                f" {', '.join(ours)}.",
                remedy="Compare with a model of the same inputs and outputs.",
            )


def _has(implementation: Implementation, name: str) -> bool:
    return any(name in node.output for node in implementation.engine.graph.node)


def _flips(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int:
    return int((a != b).sum()) if a.shape == b.shape else int(np.size(b))


def _reason(other: str, outputs: list[Comparison]) -> str | None:
    for output in outputs:
        if not output.passed:
            return f"Output {output.name!r} {output.describe(f' from {other}')}."
    return None
