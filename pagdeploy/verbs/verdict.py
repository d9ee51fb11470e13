"""The verdict: which of the things that were compared is the first that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.gates import Gate
    from pagdeploy.verbs.proof import Verification

Arrays = Mapping[str, npt.NDArray[Any]]


def first_failure(
    portable: onnx.ModelProto,
    gates: Sequence[Gate],
    visible: Sequence[str],
    reference: Arrays,
    verdict: Verification,
) -> str | None:
    """The first thing that is wrong, in one sentence; None if nothing is.

    Args:
        portable: With our nodes.
        gates: Of the portable model.
        visible: Selections that the engine computes, by name.
        reference: Logits (N, K, H, W) of every gate, by name.
        verdict: What was compared.
    """
    for gate in gates:
        if np.isnan(reference[gate.logits]).any():
            return f"The logits of gate {gate.name!r} hold NaN in the reference itself."
        if gate.selection not in visible:
            return f"The engine does not show the decisions of gate {gate.name!r}."
    for decided in verdict.gates:
        if decided.unexplained:
            return (
                f"Gate {decided.name!r} decides {decided.unexplained} of {decided.pixels} pixels"
                f" differently, by a margin of up to {decided.worst_margin:.3g} in the logits"
                f" (the bound is {decided.margin_bound:.3g})."
            )
        if decided.misread:
            return (
                f"Gate {decided.name!r} decides {decided.misread} of {decided.pixels} pixels not as"
                " its own logits say: the lowest index of the largest one."
            )
        if not decided.passed:
            return (
                f"The logits of gate {decided.name!r} differ by {decided.logit_error:.3g} (the"
                f" bound is {decided.margin_bound:.3g})."
            )
    missing = {value.name for value in portable.graph.output} - {o.name for o in verdict.outputs}
    if missing:
        return f"The engine lacks the output {sorted(missing)[0]!r}."
    for outputs, when in (
        (verdict.outputs, ""),
        (verdict.branches, " where every branch is taken somewhere"),
    ):
        for output in outputs:
            if not output.passed:
                return f"Output {output.name!r} {output.describe(when)}."
    if verdict.ties:
        return f"Gate {verdict.ties[0]!r} does not give an exact tie to the lowest index."
    undecided = any(gate.flips for gate in verdict.gates)
    for output in verdict.plan:
        if not output.passed and not undecided:
            return (
                f"The plan's output {output.name!r}"
                f" {output.describe(' from a plan of the same graph')}."
            )
    for stored in verdict.sample:
        if not stored.passed:
            return (
                f"The reference computes {stored.name!r} otherwise on this machine than where the"
                f" bundle was built: {stored.error:.3g} of its scale."
            )
    return None
