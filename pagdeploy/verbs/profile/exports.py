"""The JSON files of trtexec, for the tools that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pagdeploy.engines.ort_profile import NodeTimes
    from pagdeploy.measure.latency import Run


def write_times(path: Path, runs: Sequence[Run]) -> None:
    """One row a run, as `trtexec --exportTimes`; on a CPU nothing is enqueued or transferred."""
    rows = []
    for run in runs:
        start, end, took = (round(ms, 4) for ms in (run.start_ms, run.end_ms, run.latency_ms))
        rows.append(
            {
                "startEnqMs": start,
                "endEnqMs": end,
                "startH2dMs": start,
                "endH2dMs": start,
                "startComputeMs": start,
                "endComputeMs": end,
                "startD2hMs": end,
                "endD2hMs": end,
                "h2dMs": 0.0,
                "computeMs": took,
                "d2hMs": 0.0,
                "latencyMs": took,
            }
        )
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def write_profile(path: Path, nodes: Sequence[NodeTimes]) -> None:
    """The times of every node, as `trtexec --exportProfile`: the count of runs, then the nodes."""
    total = sum(sum(node.times_ms) for node in nodes)
    rows: list[dict[str, object]] = [
        {"count": max((len(node.times_ms) for node in nodes), default=0)}
    ]
    for node in nodes:
        time = sum(node.times_ms)
        rows.append(
            {
                "name": node.name,
                "timeMs": round(time, 4),
                "averageMs": round(time / len(node.times_ms), 4),
                "medianMs": round(float(np.median(node.times_ms)), 4),
                "percentage": round(100 * time / total, 2) if total else 0.0,
            }
        )
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def write_layers(path: Path, layers: Sequence[Mapping[str, Any]]) -> None:
    """What every node is, as `trtexec --exportLayerInfo` at a detailed verbosity.

    Args:
        path: To write.
        layers: Each with at least "Name", "LayerType", "Inputs" and "Outputs".
    """
    path.write_text(json.dumps({"Layers": list(layers)}, indent=1) + "\n", encoding="utf-8")
