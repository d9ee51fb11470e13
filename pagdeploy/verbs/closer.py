"""A closer look: layer by layer, and at what is wrong first, with the gates' decisions forced.

Two settings, as in the proof: the reference's own decisions, where the engine is held to float32;
and random ones, where it is held to the portable model in its own precision, for branches that no
input takes. Int8 is held to the portable model in int8 in both: what quantization costs is seen in
the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from pagdeploy.measure.ranges import HEADROOM, LARGEST
from pagdeploy.precision import Precision
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.bisect import ALONE, Fault, cause, first_fault
from pagdeploy.verbs.layers import Layer, LayerView, described
from pagdeploy.verbs.proof import Runner, Verification, run_lowered
from pagdeploy.verbs.unasked import random_decisions

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


class CloserLook:
    """An engine and the model that its lowering saw, side by side.

    Args:
        portable: With our nodes.
        engine: Lowered.
        inputs: By name.
        lowering: Of the engine.
        precision: Of the engine.
        runner: Runs the engine and parts of it; default: `run_lowered`.
    """

    def __init__(
        self,
        portable: onnx.ModelProto,
        engine: onnx.ModelProto,
        inputs: Arrays,
        *,
        lowering: str,
        precision: Precision,
        runner: Runner | None = None,
    ) -> None:
        from pagdeploy.graph.gates import gates_of
        from pagdeploy.pipeline import seen_by
        from pagdeploy.verbs.reference import run_reference

        self._portable, self._engine, self._inputs = portable, engine, inputs
        self._run, self._precision = runner or run_lowered, precision
        self._exact = seen_by(lowering, portable)
        rounds = precision.is_half or precision.name == "int8"
        self._rounded = seen_by(lowering, portable, precision) if rounds else self._exact
        made = {name for node in engine.graph.node for name in node.output}
        self._gates = [gate for gate in gates_of(self._exact) if gate.selection in made]
        self._visible = [gate.selection for gate in self._gates]
        self._reference = run_reference(portable, inputs)

    def recognition(self) -> list[Comparison]:
        """The model as the lowering saw it, held to the portable one; one comparison an output."""
        from pagdeploy.graph.gates import force_selections
        from pagdeploy.ops.bodies import attach_bodies

        whole = attach_bodies(force_selections(self._exact, self._visible))
        answers = run_lowered(whole, {**self._inputs, **self._decisions()})
        names = [value.name for value in self._portable.graph.output]
        return [compare(n, answers[n], self._reference[n], NETWORK_BOUNDS["fp32"]) for n in names]

    def layers(self, progress: Progress = silent) -> list[Layer]:
        """Every layer, in the reference's order, under the reference's decisions."""
        return self._typical().layers(
            lambda number, total: progress(f"layer {number} of {total}", number, total)
        )

    def first_fault(
        self, verdict: Verification, progress: Progress = silent
    ) -> tuple[Fault | None, int]:
        """What is wrong first, and how many engines were built to find it."""
        builds = 0

        def told(number: int) -> None:
            progress(f"build {builds + number}", 1, 1)

        view = self._typical()
        fault, builds = first_fault(view, told)
        if fault is None and self._visible:
            fault, more = first_fault(self._odd(), told)
            builds += more
        gate = self._gate_fault(verdict)
        if gate is not None and (fault is None or self._place(gate) < self._place(fault)):
            fault = gate
        return (None if fault is None else replace(fault, builds=builds)), builds

    def _decisions(self) -> dict[str, npt.NDArray[Any]]:
        return {name: self._reference[name] for name in self._visible}

    def _typical(self) -> LayerView:
        """Under the reference's decisions."""
        int8 = self._precision.name == "int8"
        return self._view(self._rounded if int8 else self._exact, self._decisions(), int8)

    def _odd(self) -> LayerView:
        """Under random decisions."""
        random = random_decisions(self._gates, self._visible, self._reference)
        return self._view(self._rounded, random, True)

    def _view(self, reference: onnx.ModelProto, decisions: Arrays, lowered: bool) -> LayerView:
        from pagdeploy.ops.bodies import attach_bodies

        name = self._precision.name
        network = OUTPUT_BOUNDS[name], OUTPUT_RMS_BOUNDS[name]
        lowering = LOWERING_BOUNDS[name], LOWERING_RMS_BOUNDS[name]
        return LayerView(
            attach_bodies(reference),
            self._engine,
            self._inputs,
            decisions,
            self._run,
            name,
            lowering if lowered else network,
            [gate.logits for gate in self._gates],
        )

    def _gate_fault(self, verdict: Verification) -> Fault | None:
        """The first gate that does not decide as its own logits say."""
        from pagdeploy.graph.cut import nodes_between

        judged = {gate.name: gate for gate in verdict.gates}
        for gate in self._gates:
            decided = judged.get(gate.name)
            if decided is not None and decided.misread:
                why = (
                    f"decides {decided.misread} of {decided.pixels} pixels not as its own logits"
                    " say: the lowest index of the largest one"
                )
            elif gate.name in verdict.ties:
                why = "does not give an exact tie to the lowest index"
            else:
                continue
            made = nodes_between(self._engine, [gate.logits], gate.selection)
            return Fault(
                nodes=(f"{gate.name} (PAGGate)",),
                engine_nodes=tuple(map(described, made)),
                value=gate.selection,
                reason=f"{gate.name} (PAGGate) computes {gate.selection!r}: it {why}.",
                builds=0,
            )
        return None

    def _place(self, fault: Fault) -> int:
        """Of a fault's value in the reference's order."""
        order = [name for node in self._exact.graph.node for name in node.output]
        return order.index(fault.value) if fault.value in order else len(order)


def look_closer(
    verdict: Verification,
    look: CloserLook,
    *,
    layers: bool = False,
    bisect: bool = False,
    progress: Progress = silent,
) -> Verification:
    """The verification with what a closer look adds to it.

    Args:
        verdict: Of the same engine.
        look: At the engine.
        layers: Judge every layer; one that is beyond its bound fails the verification.
        bisect: Look for the first node that is wrong.
        progress: Told of each layer and build.
    """
    reason = verdict.reason
    if layers:
        found, recognition = look.layers(progress), look.recognition()
        wrong = next((layer for layer in found if not layer.own.passed), None)
        if reason is None and wrong is not None:
            reason = f"The layer {wrong.value!r} {wrong.own.describe(ALONE)}{cause(wrong)}."
        for output in recognition:
            if not output.passed:
                reason = (
                    f"The passes before lowering change the function: output {output.name!r}"
                    f" {output.describe()}."
                )
                break
        findings = [*verdict.findings, *_findings(found, verdict.precision)]
        verdict = replace(verdict, layers=found, recognition=recognition, findings=findings)
    if bisect:
        fault, builds = look.first_fault(verdict, progress)
        if fault is not None and reason is None:
            reason = fault.reason
        verdict = replace(verdict, fault=fault, builds=builds)
    return replace(verdict, reason=reason)


def _findings(layers: list[Layer], precision: str) -> list[str]:
    """What the numbers of the layers say beside their errors, one sentence each."""
    found = []
    for layer in layers:
        where = f"The layer {layer.value!r}"
        if layer.not_finite:
            found.append(
                f"{where} holds {layer.not_finite} NaNs or infinities where the reference has"
                " numbers."
            )
        elif layer.saturated:
            found.append(f"{where} holds {layer.saturated:.2%} numbers beyond float16.")
        elif precision == "fp16" and layer.largest > LARGEST / HEADROOM:
            found.append(
                f"{where} reaches {layer.largest:.3g}, near the end of float16 at {LARGEST:.0f}."
            )
    return found
