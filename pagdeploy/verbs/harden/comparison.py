"""How far a hardened model is from the soft one: on a request, and on data with truths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.verbs.harden.result import HardenedGate, OutputChange
from pagdeploy.verbs.scoring import TaskScore, compared, count_scores, request_of
from pagdeploy.verbs.tasks import Settings

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.mixtures import Mixture

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_UNDECIDED = 0.5  # of the weight: with no more than that, the others together weigh as much


def compare_models(
    chosen: Sequence[Mixture],
    soft: onnx.ModelProto,
    portable: onnx.ModelProto,
    inputs: Arrays,
    rulings: Mapping[str, int],
    made: Mapping[str, str],
) -> tuple[list[HardenedGate], list[OutputChange], tuple[float, float]]:
    """Gates and outputs on one request, and the multiply-adds of it, soft and hard.

    Args:
        chosen: The mixtures, of the soft model.
        soft: As it was read, at an opset of today.
        portable: Hardened, in our ops.
        inputs: The request, by name.
        rulings: Convolutions that each mixture's gate rules.
        made: The name of that gate.
    """
    from pagdeploy.graph.cost import count_cost
    from pagdeploy.graph.gates import expose, gates_of
    from pagdeploy.verbs.reference import run_reference

    names = {mixture.name: str(mixture.node.outputs[0].name) for mixture in chosen}
    before = run_reference(expose(soft, list(names.values())), inputs)
    after = run_reference(portable, inputs)
    selections = {gate.name: gate.selection for gate in gates_of(portable)}
    gates = []
    for mixture in chosen:
        name = made[mixture.name]
        weights = before[names[mixture.name]]
        best = weights.max(mixture.axis)
        if mixture.node.op_type != "Softmax":
            best = np.maximum(weights, 1 - weights)
        gates.append(
            HardenedGate(
                name=name,
                kind="softmax" if mixture.node.op_type == "Softmax" else "sigmoid",
                branches=mixture.branches,
                convolutions=rulings[mixture.name],
                density=_shares(after[selections[name]], mixture.branches),
                confidence=float(best.mean()),
                undecided=float((best <= _UNDECIDED).mean()),
            )
        )
    outputs = [
        _change(value.name, before[value.name], after[value.name]) for value in soft.graph.output
    ]
    shapes = {name: array.shape for name, array in inputs.items()}
    densities = {
        gate.selection: _shares(after[gate.selection], after[gate.logits].shape[1])
        for gate in gates_of(portable)
    }
    needed = count_cost(_perforated(portable), shapes, densities).sparse
    return gates, outputs, (count_cost(soft, shapes, {}).dense, needed)


def _shares(selection: Array, branches: int) -> list[float]:
    counts = np.bincount(selection.reshape(-1), minlength=branches)
    return [float(count) for count in counts / max(selection.size, 1)]


def _change(name: str, soft: Array, hard: Array) -> OutputChange:
    """Of an output, (N, C, H, W) or of any other shape."""
    wide, other = soft.astype(np.float64), hard.astype(np.float64)
    away = np.abs(other - wide)
    agreement = None
    if not np.issubdtype(soft.dtype, np.floating):
        agreement = float((soft == hard).mean()) if soft.size else None
    elif soft.ndim == 4 and soft.shape[1] > 1:
        known = np.isfinite(soft).all(1) & np.isfinite(hard).all(1)  # (N, H, W)
        agreement = float(((soft.argmax(1) == hard.argmax(1)) & known).mean())
    return OutputChange(
        name,
        rms=_over(np.sqrt(np.mean(away**2)), np.sqrt(np.mean(wide**2))),
        largest=_over(away.max(initial=0), np.abs(wide).max(initial=0)),
        agreement=agreement,
    )


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole else float(bool(part))


def _perforated(portable: onnx.ModelProto) -> onnx.ModelProto:
    """With the convolutions perforated that a build will perforate."""
    import onnx_ir as ir

    from pagdeploy.passes import infer_perforation
    from pagdeploy.pipeline import read_module, run_passes

    module = read_module(portable)
    run_passes(module, (infer_perforation,))
    return ir.to_proto(module)


def score_models(
    name: str,
    soft: onnx.ModelProto,
    portable: onnx.ModelProto,
    data: Path,
    settings: Settings,
    given: Arrays,
    shapes: Mapping[str, Sequence[int]] | None,
) -> tuple[int, list[TaskScore], list[str]]:
    """How many images there are, what both models score on them, and notes.

    Args:
        name: What to call the model in an error.
        soft: The one.
        portable: The other.
        data: The folder, as `verbs.ground_truth` describes it.
        settings: How to count.
        given: A request, for the inputs besides the image.
        shapes: Of the image, to resize pictures to.
    """
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.ops.bodies import attach_bodies
    from pagdeploy.verbs.ground_truth import open_data
    from pagdeploy.verbs.tasks import tasks_of

    folder = open_data(data)
    outputs = [value.name for value in soft.graph.output]
    tasks = tasks_of(outputs, folder, settings.outputs)
    initial = {tensor.name for tensor in soft.graph.initializer}
    interface = {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in soft.graph.input
        if value.name not in initial
    }
    request = request_of(name, interface, shapes or {})
    besides = {key: array for key, array in given.items() if key != request.image}
    sessions = {
        who: OnnxRuntimeEngine().load(attach_bodies(model).SerializeToString())
        for who, model in (("soft", soft), ("hard", portable))
    }
    counted = count_scores(sessions, tasks, folder, replace(request, besides=besides), settings)
    rows = compared(tasks, counted["soft"], counted["hard"], settings.tolerance or 0)
    return len(folder.files), rows, [note for task in tasks.values() for note in task.notes]
