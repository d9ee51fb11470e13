"""What no input asks for: decisions at random, and logits full of exact ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.gates import Gate
    from pagdeploy.verbs.proof import Runner

Arrays = Mapping[str, npt.NDArray[Any]]


def random_decisions(
    gates: Sequence[Gate], visible: Sequence[str], reference: Arrays
) -> dict[str, npt.NDArray[Any]]:
    """Decisions that no input asked for: every branch of every gate, spread evenly.

    Args:
        gates: Of the portable model.
        visible: Selections to decide, by name.
        reference: Logits (N, K, H, W) and selections (N, 1, H, W) of every gate, by name.
    """
    rng = np.random.default_rng(0)
    return {
        gate.selection: rng.integers(
            0, reference[gate.logits].shape[1], reference[gate.selection].shape, np.int32
        )
        for gate in gates
        if gate.selection in visible
    }


def wrong_ties(
    run: Runner,
    engine: onnx.ModelProto,
    gates: Sequence[Gate],
    visible: Sequence[str],
    inputs: Arrays,
    reference: Arrays,
) -> list[str]:
    """Names of gates that decide logits with many exact ties otherwise than by the lowest index.

    Args:
        run: Runs the engine.
        engine: Lowered.
        gates: Of the portable model.
        visible: Selections that the engine computes, by name.
        inputs: By name, and those selections to force.
        reference: Logits (N, K, H, W) of every gate, by name.
    """
    from pagdeploy.graph.gates import OWN, force_logits, force_selections

    rng = np.random.default_rng(1)
    produced = values_of(engine)
    asked = [g for g in gates if g.selection in visible and g.logits in produced]
    tied = {
        name: rng.integers(0, 2, reference[name].shape).astype(reference[name].dtype)
        for name in (gate.logits for gate in asked)
    }
    # In this order: forcing drops the types that the graph notes, and logits may be of any.
    forced = force_selections(force_logits(engine, list(tied)), visible)
    answers = run(forced, {**inputs, **tied})
    return [
        g.name
        for g in asked
        if not np.array_equal(answers[g.selection + OWN], tied[g.logits].argmax(1)[:, None])
    ]


def values_of(model: onnx.ModelProto) -> set[str]:
    """Names of what the nodes of the main graph compute."""
    return {name for node in model.graph.node for name in node.output}
