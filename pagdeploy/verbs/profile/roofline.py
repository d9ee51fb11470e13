"""The roofline: how fast a perforated convolution could be on this machine, and how fast it is.

Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model for Multicore
Architectures, CACM 2009. Bytes are compulsory traffic, each number once: what the active pixels
read of X, the weights, every pixel of Y, and of the base what is copied or added.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.verbs.profile.candidates import perforated_convolutions
from pagdeploy.verbs.profile.result import Peak, RooflinePoint, Saving

if TYPE_CHECKING:
    import onnx

    from pagdeploy.verbs.profile.candidates import Candidates

Arrays = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]
_SIDE = 1024  # of the square matrices: 2.1e9 operations, 12 MiB
_STREAM = 2**25  # floats: 128 MiB read and 128 MiB written, more than caches hold
_SECONDS = 0.4  # for each probe, after a run to warm up
_FLOAT, _INT32 = 4, 4  # bytes


def probe_machine(threads: int) -> Peak:
    """Measure what onnxruntime's own kernels reach on the CPU: the best of a few runs.

    Args:
        threads: Inside one operator; 0 takes one per core.
    """
    from onnx import TensorProto, helper, numpy_helper

    def single(op: str, inputs: list[str], shape: list[int]) -> onnx.GraphProto:
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
        return helper.make_graph([helper.make_node(op, inputs, ["y"])], "probe", [x], [y])

    rng = np.random.default_rng(0)
    matrix = rng.random((_SIDE, _SIDE), np.float32)
    product = single("MatMul", ["x", "w"], [_SIDE, _SIDE])
    product.initializer.append(numpy_helper.from_array(matrix, "w"))
    multiplied = _fastest(product, matrix, threads)
    streamed = _fastest(single("Neg", ["x"], [_STREAM]), np.ones(_STREAM, np.float32), threads)
    return Peak(
        gflops=2 * _SIDE**3 / multiplied / 1e9,
        gbytes=2 * _FLOAT * _STREAM / streamed / 1e9,
    )


def _fastest(graph: onnx.GraphProto, x: npt.NDArray[np.float32], threads: int) -> float:
    """Seconds."""
    from onnx import helper

    from pagdeploy.engines import engine_named

    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    session = engine_named("onnxruntime").load(model, threads=threads, taking_turns=True)
    session.run({"x": x})
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < _SECONDS:
        begin = time.perf_counter()
        session.run({"x": x})
        best = min(best, time.perf_counter() - begin)
    return best


def under_the_roof(
    candidates: Candidates,
    inputs: Arrays,
    decisions: Arrays,
    savings: Sequence[Saving],
    peak: Peak,
) -> list[RooflinePoint]:
    """Place each perforated convolution that took time and computed something.

    Args:
        candidates: A float32 engine on the CPU.
        inputs: That were run.
        decisions: Of the gates on them.
        savings: With times and multiply-adds.
        peak: Of the machine.
    """
    from pagdeploy.graph.cost import known_shapes

    sizes = {name: array.shape for name, array in inputs.items()}
    _, shapes = known_shapes(candidates.perforated, sizes)
    selections = candidates.selections(inputs, decisions)
    nodes = {node.name: node for node in perforated_convolutions(candidates.perforated)}
    points = []
    for saving in savings:
        operations = 2 * saving.needed_macs
        if saving.engine_ms <= 0 or operations == 0:
            continue
        fused = [*saving.fused, saving.name]
        moved = compulsory_bytes([nodes[name] for name in fused], shapes, selections)
        intensity = operations / moved
        roof = min(peak.gflops, intensity * peak.gbytes)
        reached = operations / saving.engine_ms / 1e6
        points.append(
            RooflinePoint(
                name=saving.name,
                operations=operations,
                bytes=moved,
                intensity=intensity,
                gflops=reached,
                roof_gflops=roof,
                limit="compute" if roof == peak.gflops else "memory",
                share=reached / roof,
            )
        )
    return points


def compulsory_bytes(
    nodes: Sequence[onnx.NodeProto],
    shapes: Mapping[str, Sequence[int]],
    selections: Arrays,
) -> float:
    """Bytes that a PerforatedConv must move in float32, each number once.

    Args:
        nodes: One, or the branches of one gate in a chain, of which the last one's Y is written
            and the first one's base is read.
        shapes: Of all values.
        selections: (N, 1, H, W) or (N, 1, 1, 1), by name.
    """
    from pagdeploy.ops import Mode

    read: dict[str, Mask] = {}  # by X: pixels that some branch reads
    weights, any_active = 0.0, None
    for node in nodes:
        given = {a.name: list(a.ints) or a.i for a in node.attribute}
        x, selection, weight, bias, _ = node.input
        batch, _, height, width = shapes[node.output[0]]
        chosen = selections[selection][:, 0] == given["branch"]  # (N, H, W) or (N, 1, 1)
        active = np.broadcast_to(chosen, (batch, height, width))
        if active.any():  # else its weights are not read
            weights += float(np.prod(shapes[weight]) + np.prod(shapes[bias]))
        pixels = support(active, shapes[x][2:], given)  # (N, H, W)
        read[x] = read.get(x, np.zeros_like(pixels)) | pixels
        any_active = active if any_active is None else any_active | active
    assert any_active is not None, "there is a node"
    first, last = nodes[0], nodes[-1]
    numbers = weights + sum(
        float(np.count_nonzero(pixels)) * shapes[x][1] for x, pixels in read.items()
    )
    numbers += float(np.prod(shapes[last.output[0]]))
    mode = next(a.i for a in first.attribute if a.name == "mode")
    # Replacing copies the base where nothing is active; adding reads it everywhere.
    share = 1.0 if mode == Mode.ADD else 1.0 - float(any_active.mean())
    numbers += share * float(np.prod(shapes[first.input[4]]))
    return _FLOAT * numbers + _INT32 * float(selections[first.input[1]].size)


def support(active: Mask, size: Sequence[int], given: Mapping[str, Any]) -> Mask:
    """The pixels of X that some active pixel reads, (N, H, W) of X.

    Args:
        active: (N, Ho, Wo).
        size: H and W of X.
        given: Conv's kernel_shape, strides, pads and dilations.
    """
    (kh, kw), strides = given["kernel_shape"], given["strides"]
    pads, dilations = given["pads"], given["dilations"]
    result = np.zeros((len(active), *size), bool)
    images, rows, columns = np.nonzero(active)
    for ky in range(kh):
        y = rows * strides[0] - pads[0] + ky * dilations[0]
        for kx in range(kw):
            x = columns * strides[1] - pads[1] + kx * dilations[1]
            inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
            result[images[inside], y[inside], x[inside]] = True
    return result
