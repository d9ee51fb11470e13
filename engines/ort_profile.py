"""What each operator of a model takes in onnxruntime on the CPU, by its own profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pagdeploy.engines.base import Arrays
from pagdeploy.engines.ort_native import needs_library

_SUFFIX = "_kernel_time"
_WARM_UP = 3  # runs that grow arenas and touch pages
_CONTAINERS = ("If", "Loop", "Scan")  # what is inside of them is listed, too


@dataclass(frozen=True)
class NodeTimes:
    """What one node of the optimised graph took.

    Attributes:
        name: As onnxruntime has it after fusing nodes and changing layouts.
        op: Its operator.
        times_ms: One entry a run that reached it.
    """

    name: str
    op: str
    times_ms: list[float]


def profile_nodes(
    models: Mapping[str, bytes],
    inputs: Arrays,
    *,
    runs: int,
    threads: int = 0,
    libraries: Sequence[Path] = (),
) -> dict[str, list[NodeTimes]]:
    """Run models in turn with onnxruntime's profiler on; nodes in the order in which they run.

    Taking the times costs time itself, so their sum is no latency.

    Args:
        models: Serialized ModelProtos by name, each of which `ort.OnnxRuntimeEngine` has taken.
        inputs: By name; a model takes those that it has.
        runs: That are counted, of each model.
        threads: Inside one operator; 0 takes one per core.
        libraries: Of our ops, for the models that need them.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for number, (name, model) in enumerate(models.items()):
            options = _options(model, threads, libraries)
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / f"profile{number}")
            sessions[name] = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        for _ in range(_WARM_UP + runs):
            for session in sessions.values():
                wanted = [value.name for value in session.get_inputs()]
                feeds = {n: np.asarray(inputs[n], order="C") for n in wanted}
                session.run(None, feeds)
        return {
            name: _by_node(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))
            for name, session in sessions.items()
        }


def list_layers(
    model: bytes, *, threads: int = 0, libraries: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """The nodes of the optimised graph in the words of TensorRT's inspector.

    Their names are those of `profile_nodes`, and what an If chooses from is listed, too. Types
    are told where onnxruntime keeps them; sizes it does not.

    Args:
        model: As `profile_nodes`.
        threads: Inside one operator; 0 takes one per core.
        libraries: As `profile_nodes`.
    """
    import onnx
    import onnxruntime

    from pagdeploy.graph.read import graphs_of

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "optimised.onnx"
        options = _options(model, threads, libraries)
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graphs = graphs_of(onnx.load(file))
    types = {
        value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        for graph in graphs
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    constants = {tensor.name for graph in graphs for tensor in graph.initializer}

    def described(names: Sequence[str]) -> list[dict[str, str]]:
        return [
            {"Name": name, "Format/Datatype": types.get(name, "")}
            for name in names
            if name and name not in constants
        ]

    return [
        {
            "Name": node.name,
            "LayerType": node.op_type,
            "Inputs": described(node.input),
            "Outputs": described(node.output),
        }
        for graph in graphs
        for node in graph.node
        if node.op_type not in _CONTAINERS
    ]


def _options(model: bytes, threads: int, libraries: Sequence[Path]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    for library in libraries if needs_library(model) else ():
        options.register_custom_ops_library(str(library))
    return options


def _by_node(events: Sequence[dict[str, Any]]) -> list[NodeTimes]:
    ends = sorted(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    warm = ends[_WARM_UP - 1]  # microseconds, as all times in a profile
    found: dict[str, NodeTimes] = {}
    for event in events:
        name = str(event["name"])
        if event["cat"] != "Node" or not name.endswith(_SUFFIX) or event["ts"] < warm:
            continue
        op = event["args"]["op_name"]
        if op not in _CONTAINERS:
            name = name.removesuffix(_SUFFIX)
            found.setdefault(name, NodeTimes(name, op, [])).times_ms.append(event["dur"] / 1e3)
    return list(found.values())
