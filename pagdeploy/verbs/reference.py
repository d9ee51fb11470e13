"""The reference: the portable model, bodies and all, in stock onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


def run_reference(model: onnx.ModelProto, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """All outputs of the portable model, and the logits and selection of every gate.

    Args:
        model: Portable; function bodies are attached if it has none.
        inputs: By name.

    Raises:
        UsageError: an input does not fit.
        EnvironmentProblem: onnxruntime is not installed.
        BuildFailed: onnxruntime refuses the model, or fails.
    """
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.gates import expose, gates_of
    from pagdeploy.ops.bodies import attach_bodies

    names = [name for gate in gates_of(model) for name in (gate.logits, gate.selection)]
    whole = attach_bodies(expose(model, names))
    outputs = OnnxRuntimeEngine().load(whole.SerializeToString()).run(inputs)
    for name in names:  # logits may be an input of the graph, which is no output
        outputs.setdefault(name, inputs.get(name, outputs.get(name)))  # type: ignore[arg-type]
    return outputs
