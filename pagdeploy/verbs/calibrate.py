"""Calibrate: run the portable model on typical inputs and note the range of every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.measure.ranges import (
    RangeCollector,
    RangeWarning,
    ValueRange,
    float16_warnings,
)
from pagdeploy.precision import Precision
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]
_AT_ONCE = 16  # values shown by one session: a 480x640 network's then fit into some 300 MB


def calibrate(
    portable: onnx.ModelProto, inputs: Arrays, *, progress: Progress = silent
) -> dict[str, ValueRange]:
    """The range of every float32 value of the main graph, by name.

    Batch norms are folded first, as they are before a precision is applied. Values inside of our
    nodes are not shown: what an inactive pixel would have computed does not count.

    Args:
        portable: With our nodes.
        inputs: By name; where they agree in their first size, which the model leaves open, that
            many requests are run one after the other.
        progress: Told of each group of values.

    Raises:
        UsageError: an input does not fit.
        EnvironmentProblem: onnxruntime is not installed.
        BuildFailed: onnxruntime refuses the model, or fails.
    """
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.gates import expose
    from pagdeploy.pipeline import lower

    folded = lower(portable, "dense")
    names = _float_values(portable, {name for n in folded.graph.node for name in n.output})
    collector = RangeCollector()
    for request in requests_of(portable, inputs):
        for name in names & set(request):
            collector.add(name, request[name])
    shown = sorted(names - set(inputs))
    groups = [shown[i : i + _AT_ONCE] for i in range(0, len(shown), _AT_ONCE)]
    for number, group in enumerate(groups, 1):
        progress("measure ranges", number, len(groups))
        session = OnnxRuntimeEngine().load(expose(folded, group).SerializeToString())
        for request in requests_of(portable, inputs):
            answers = session.run(request)
            for name in group:
                collector.add(name, answers[name])
    return collector.ranges()


def precision_warnings(
    portable: onnx.ModelProto, ranges: Mapping[str, ValueRange], precision: Precision
) -> list[RangeWarning]:
    """What the ranges say against casting to float16, the worst first; else nothing.

    Args:
        portable: With our nodes.
        ranges: As `calibrate` gives them.
        precision: What is asked for; nodes that it keeps in float32 are not warned of.

    Raises:
        UsageError: as `pipeline.lower`.
    """
    from pagdeploy.pipeline import lower

    if precision.name != "fp16":
        return []
    half = lower(portable, "plugin", precision=precision)
    return float16_warnings(ranges, _float16_neighbours(half, set(ranges)))


def _float16_neighbours(model: onnx.ModelProto, known: set[str]) -> dict[str, list[str]]:
    """For every known value held in float16, the nodes that compute it and that read it so."""
    import onnx

    from pagdeploy.passes.cast_precision import SUFFIX

    half = {
        value.name
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    neighbours: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in ("Cast", "Shape"):
            continue
        for name in dict.fromkeys([*node.input, *node.output]):
            if name in half:
                origin = name if name in known else name.rpartition(SUFFIX)[0]
                neighbours.setdefault(origin, []).append(node.name)
    return neighbours


def _float_values(portable: onnx.ModelProto, present: set[str]) -> set[str]:
    """The float32 values that the user's graph and the folded one have in common."""
    import onnx

    from pagdeploy.ops.derive import register_schemas

    register_schemas()
    graph = onnx.shape_inference.infer_shapes(portable).graph
    initial = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input} - initial
    return {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.name in present | inputs
        and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def requests_of(model: onnx.ModelProto, inputs: Arrays) -> Iterator[Arrays]:
    """One request per image, so that a whole data set never lies in memory at once.

    Args:
        model: Whose inputs they are.
        inputs: By name; split where all agree in their first size and the model leaves it open.
    """
    sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    dims = [v.type.tensor_type.shape.dim for v in model.graph.input if v.name in inputs]
    is_open = all(len(dim) > 0 and not dim[0].HasField("dim_value") for dim in dims)
    if len(sizes) != 1 or not is_open:
        yield inputs
        return
    for index in range(sizes.pop()):
        yield {name: array[index : index + 1] for name, array in inputs.items()}
