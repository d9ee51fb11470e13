"""What the manifest says of a build: interface, gates, ops and machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.manifest import EngineInfo, GateInfo, Host, Manifest, OpInfo, Tensor

if TYPE_CHECKING:
    import onnx

    from pagdeploy.graph.describe import Told
    from pagdeploy.verbs.choose import RegionCost

Arrays = Mapping[str, npt.NDArray[Any]]


def make_manifest(
    portable: onnx.ModelProto,
    lowered: onnx.ModelProto,
    engine: EngineInfo,
    inputs: Arrays,
    reference: Arrays,
    costs: Sequence[RegionCost],
    source_sha256: str,
) -> Manifest:
    """The manifest, before its files are sealed.

    Args:
        portable: What was built.
        lowered: What the engine was built from.
        engine: What runs.
        inputs: The sample.
        reference: The reference's answer to it: outputs, gate logits and selections.
        costs: What was measured of its gated regions.
        source_sha256: Of the model's file.
    """
    from pagdeploy import __version__
    from pagdeploy.graph.gates import gates_of

    initial = {tensor.name for tensor in portable.graph.initializer}
    return Manifest(
        pagdeploy_version=__version__,
        engine=engine,
        host=_host(on_gpu=engine.plan is not None or engine.flavour.endswith("cuda")),
        source_sha256=source_sha256,
        inputs=[
            _tensor(value, inputs[value.name])
            for value in portable.graph.input
            if value.name not in initial
        ],
        outputs=[_tensor(value, reference[value.name]) for value in portable.graph.output],
        gates=[
            GateInfo(
                name=gate.name,
                logits=gate.logits,
                selection=gate.selection,
                density=_density(reference, gate.logits, gate.selection),
            )
            for gate in gates_of(portable)
        ],
        ops=_ops(portable, lowered, engine.lowering, costs),
        files={},
    )


def _host(*, on_gpu: bool) -> Host:
    here = Host(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=platform.python_version(),
    )
    if not on_gpu:
        return here
    from pagdeploy.engines.nvidia.driver import driver, kernel_driver

    answer = driver()
    if not answer.gpus:  # a plan can be built for GPUs that are elsewhere
        return here
    gpu = answer.gpus[0]
    facts = {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": kernel_driver(),
        "cuda": answer.cuda,
    }
    return here.model_copy(update=facts)


def _tensor(value: onnx.ValueInfoProto, sample: npt.NDArray[Any]) -> Tensor:
    finite = sample[np.isfinite(sample)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    dims = value.type.tensor_type.shape.dim
    return Tensor(
        name=value.name,
        dtype=str(sample.dtype),
        # Some exporters write -1 where a size is free.
        shape=[
            dim.dim_value if dim.dim_value > 0 else dim.dim_param or f"axis{k}"
            for k, dim in enumerate(dims)
        ],
        sample_shape=list(sample.shape),
        sample_range=(low, high),
    )


def _density(reference: Arrays, logits: str, selection: str) -> list[float]:
    branches = reference[logits].shape[1]
    counts = np.bincount(reference[selection].ravel(), minlength=branches)
    return [round(float(count) / max(1, reference[selection].size), 4) for count in counts]


def told_of(portable: onnx.ModelProto, reference: Arrays, costs: Sequence[RegionCost]) -> Told:
    """What a build knows of a model, for its doc strings; the arguments are `make_manifest`'s."""
    from pagdeploy.graph.describe import Told
    from pagdeploy.graph.gates import gates_of

    reasons = {}
    for cost in costs:
        times = ", ".join(f"{ms:.3g} ms as {name}" for name, ms in cost.costs_ms.items())
        for name in cost.nodes:
            reasons[name] = f"at density {cost.density:.3g} its region took {times}"
    densities = {
        gate.name: _density(reference, gate.logits, gate.selection) for gate in gates_of(portable)
    }
    return Told(densities, reasons)


def _ops(
    portable: onnx.ModelProto,
    lowered: onnx.ModelProto,
    lowering: str,
    costs: Sequence[RegionCost],
) -> list[OpInfo]:
    from pagdeploy.graph.choice import lowerings_of
    from pagdeploy.ops import DOMAIN

    became = lowerings_of(lowered)
    told = {
        name: {
            "density": cost.density,
            "largest_density": cost.largest,
            "costs_ms": cost.costs_ms,
            "threshold": cost.choice.threshold,
        }
        for cost in costs
        for name in cost.nodes
    }
    otherwise = "plugin" if lowering == "plugin" else "dense"
    return [
        OpInfo.model_validate(
            {
                "name": node.name,
                "lowering": became.get(node.name, otherwise),
                **told.get(node.name, {}),
            }
        )
        for node in portable.graph.node
        if node.domain == DOMAIN and node.op_type == "PerforatedConv"
    ]
