"""Blocks of `cpu.blocks` in int8, by the same passes as `build --precision int8`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from cpu.blocks import Block, dense_model, gated_model
from cpu.sessions import session_of
from pagdeploy.engines.ort import OnnxRuntimeEngine
from pagdeploy.graph.gates import expose
from pagdeploy.measure.ranges import RangeCollector
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision

Arrays = Mapping[str, npt.NDArray[np.generic]]


def int8_models(
    block: Block, count: int, inputs: Arrays, lowerings: Mapping[str, str]
) -> dict[str, onnx.ModelProto]:
    """The dense twin as "dense", the masked export as "masked", and the engines by name.

    Args:
        block: A whole block.
        count: How many in a row.
        inputs: What ranges are measured on: x and the selections.
        lowerings: By name of the engine.
    """
    dense = dense_model(block, count, framed=True)
    gated = gated_model(block, count=count, framed=True)
    models = {"dense": lower(dense, "dense", precision=_int8(dense, {"x": inputs["x"]}))}
    precision = _int8(gated, inputs)
    for name, lowering in {"masked": "dense", **lowerings}.items():
        models[name] = lower(gated, lowering, precision=precision)
    return models


def _int8(model: onnx.ModelProto, inputs: Arrays) -> Precision:
    # Not verbs.calibrate: its sessions have threads of their own, which a shared pool excludes.
    names = [name for node in model.graph.node for name in node.output]
    session = session_of(expose(lower(model, "dense"), names))
    collector = RangeCollector()
    for output in session.get_outputs():
        if output.type == "tensor(float)":
            collector.add(output.name, session.run([output.name], dict(inputs))[0])
    ranges = {name: found.interval for name, found in collector.ranges().items()}
    integers = OnnxRuntimeEngine.integer_kernels
    return Precision("int8", ranges=ranges, integer_kernels=integers)
