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
        libraries: Of custom operators.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for number, (name, model) in enumerate(models.items()):
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / f"profile{number}")
            for library in libraries:
                options.register_custom_ops_library(str(library))
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
