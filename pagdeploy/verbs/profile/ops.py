"""Where the time goes: onnxruntime's nodes, joined with ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.verbs.profile.candidates import perforated_convolutions
from pagdeploy.verbs.profile.result import ENGINE, MASKED, PLAIN, OpRow

if TYPE_CHECKING:
    from pagdeploy.engines.ort_profile import NodeTimes
    from pagdeploy.verbs.profile.candidates import Candidates

Arrays = Mapping[str, npt.NDArray[Any]]
# What onnxruntime puts around the name of a node that it fuses, or moves to another layout.
_DECORATION = re.compile(r"^fused |_nchwc$|_token_\d+$")


def node_times(candidates: Candidates, inputs: Arrays, runs: int) -> dict[str, list[NodeTimes]]:
    """The times of every node of the engine and of its baselines.

    Args:
        candidates: On the CPU.
        inputs: By name.
        runs: That are counted.
    """
    from pagdeploy.engines.ort_profile import profile_nodes

    names = (ENGINE, MASKED, PLAIN)
    models = {name: candidates.models[name].SerializeToString() for name in names}
    return profile_nodes(
        models, inputs, runs=runs, threads=candidates.threads, libraries=candidates.libraries
    )


def owned_times(candidates: Candidates, nodes: Sequence[NodeTimes]) -> dict[tuple[str, str], float]:
    """Milliseconds a run: medians of nodes added up by (our node, "") or by ("", op).

    Args:
        candidates: Whose perforated model and gates have the names.
        nodes: Of one model.
    """
    convolutions = perforated_convolutions(candidates.perforated)
    gates = candidates.gates
    # onnxruntime names a convolution after its output when it changes the layout.
    known = {gate.logits: gate.name for gate in gates} | {gate.name: gate.name for gate in gates}
    known |= {name: n.name for n in convolutions for name in (n.output[0], n.name)}
    return _totals(nodes, known)


def op_rows(
    candidates: Candidates,
    inputs: Arrays,
    decisions: Arrays,
    times: Mapping[str, Sequence[NodeTimes]],
) -> list[OpRow]:
    """One row a perforated convolution and a gate, and one for all other nodes of an op.

    Args:
        candidates: Whose perforated model has the names.
        inputs: That were run.
        decisions: Of the gates on them.
        times: As `node_times` gives them.
    """
    from pagdeploy.graph.cost import count_costs

    convolutions = perforated_convolutions(candidates.perforated)
    gates = candidates.gates
    sizes = {name: array.shape for name, array in inputs.items()}
    shares = candidates.shares(inputs, decisions)
    macs = count_costs(candidates.perforated, sizes, shares)
    dense, engine = (owned_times(candidates, times[name]) for name in (MASKED, ENGINE))

    def taken(name: str) -> tuple[float, float]:
        return dense.pop((name, ""), 0.0), engine.pop((name, ""), 0.0)

    rows = []
    by_selection = {gate.selection: gate.name for gate in gates}
    for node in convolutions:
        cost = macs[node.output[0]]
        branch = next(a.i for a in node.attribute if a.name == "branch")
        rows.append(
            OpRow(
                node.name,
                "perforated",
                *taken(node.name),
                gate=by_selection.get(node.input[1], node.input[1]),
                density=shares[node.input[1]][branch],
                dense_macs=cost.dense,
                engine_macs=cost.sparse,
            )
        )
    rows += [OpRow(gate.name, "gate", *taken(gate.name)) for gate in gates]
    others = sorted({*dense, *engine}, key=lambda key: -engine.get(key, 0.0))
    return rows + [
        OpRow(key[1], "other", dense.get(key, 0.0), engine.get(key, 0.0)) for key in others
    ]


def _totals(nodes: Sequence[NodeTimes], known: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Milliseconds a run, the medians of nodes added up by our node that owns them, or by op."""
    totals: dict[tuple[str, str], float] = {}
    for node in nodes:
        name = _DECORATION.sub("", _DECORATION.sub("", node.name))
        # A pass names what it makes after the node that it replaces, the exporter after modules.
        owners = [key for key in known if name == key or name.startswith((f"{key}/", f"{key}."))]
        key = (known[max(owners, key=len)], "") if owners else ("", node.op)
        totals[key] = totals.get(key, 0.0) + float(np.median(node.times_ms))
    return totals
