"""onnxruntime in the place of the runner, with its command line: a rehearsal without a GPU.

Every line of the road runs as it will on the GPU machine, and correctness is judged for real. Times
mean nothing, and what only TensorRT can do (formats, tactics, graphs) is played.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1]))
from road.cases import raw_file

DOMAIN = "pagdeploy"


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Of the stand-in."""
    return {"device": "none: a rehearsal in onnxruntime", "onnxruntime": onnxruntime.__version__}


def build(options: argparse.Namespace) -> dict[str, Any]:
    """The engine is the model with the bodies of our ops."""
    from pagdeploy.ops.bodies import attach_bodies

    started = time.monotonic()
    source, engine = options.files
    model = onnx.load(source)
    for node in model.graph.node:
        if node.domain == DOMAIN and "plugin_namespace" not in {a.name for a in node.attribute}:
            raise ValueError(f"the node {node.name} does not say which plugin it is")
    if model.functions:
        raise ValueError("the model still has function bodies, which a parser would prefer")
    if options.cache:
        Path(options.cache).touch()
    for kept in options.float32_layers.read_text().split("\n") if options.float32_layers else []:
        if kept and kept not in {node.name for node in model.graph.node}:
            raise ValueError(f"--float32-layers names {kept}, which is no node")
    size = engine.write_bytes(attach_bodies(model).SerializeToString())
    return {"seconds": time.monotonic() - started, "engine_bytes": size}


def _load(engine: Path, options: argparse.Namespace) -> tuple[onnx.ModelProto, Any]:
    model = onnx.load(engine)
    if not options.plugin and any(node.domain == DOMAIN for node in model.graph.node):
        raise ValueError("TensorRT does not load the engine: a plugin creator is missing")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return model, session


def _inputs(session: Any, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32}
    shapes = dict(part.rsplit(":", 1) for part in options.shape)
    arrays = {}
    for value in session.get_inputs():
        sizes = [int(n) for n in shapes[value.name].split("x")] if shapes else value.shape
        data = np.fromfile(raw_file(folder, value.name), dtypes[value.type])
        arrays[value.name] = data.reshape(sizes)
    return arrays


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Write the outputs of every way; the layers are the nodes."""
    model, session = _load(options.files[0], options)
    names = [value.name for value in session.get_outputs()]
    outputs = []
    for way in ("plain", *(["replayed"] if options.graph else [])):
        for number, folder in enumerate(options.inputs):
            outputs = session.run(names, _inputs(session, folder, options))
            if options.outputs:
                target = options.outputs / f"{way}-{number}"
                target.mkdir(parents=True, exist_ok=True)
                for name, array in zip(names, outputs, strict=True):
                    array.tofile(raw_file(target, name))
    if options.layers:
        layers = [
            {
                "Name": node.name,
                "LayerType": "PluginV2" if node.domain == DOMAIN else node.op_type,
                "Inputs": [{"Name": name} for name in node.input],
                "Outputs": [{"Name": name} for name in node.output],
            }
            for node in model.graph.node
        ]
        options.layers.write_text(json.dumps({"Layers": layers}))
    tensors = [
        {"name": name, "type": array.dtype.name, "shape": list(array.shape), "output": True}
        for name, array in zip(names, outputs, strict=True)
    ]
    return {"tensors": tensors, "layers": [{"layer": n.name, "ms": 0.0} for n in model.graph.node]}


def time_in_turns(options: argparse.Namespace) -> dict[str, Any]:
    """One request each: the numbers mean nothing."""
    results = []
    sessions = [_load(engine, options)[1] for engine in options.files]
    for folder in options.inputs:
        for engine, session in zip(options.files, sessions, strict=True):
            arrays = _inputs(session, folder, options)
            started = time.perf_counter()
            session.run(None, arrays)
            ms = (time.perf_counter() - started) * 1e3
            taken = dict.fromkeys(("median_ms", "p10_ms", "p90_ms", "p99_ms"), ms)
            results.append({"engine": str(engine), "inputs": str(folder), "time": taken})
    return {"results": results}


COMMANDS = {"facts": facts, "build": build, "run": run, "time": time_in_turns}


def main() -> int:
    """The runner's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("files", nargs="*", type=Path)
    for repeated in ("--inputs", "--plugin", "--shape"):
        parser.add_argument(
            repeated, action="append", default=[], type=Path if repeated == "--inputs" else str
        )
    for path in ("--outputs", "--cache", "--layers", "--float32-layers"):
        parser.add_argument(path, type=Path)
    for number in ("--rounds", "--profile", "--workspace"):
        parser.add_argument(number, type=int)
    for switch in ("--fp16", "--tf32", "--graph", "--verbose"):
        parser.add_argument(switch, action="store_true")
    options = parser.parse_intermixed_args()
    try:
        print(json.dumps(COMMANDS[options.command](options)))
    except Exception as problem:  # as the runner: one sentence, exit 1
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
