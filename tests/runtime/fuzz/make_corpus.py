"""Write the seeds of the bundle fuzzer: make_corpus.py. See bundle_fuzzer.cpp for their form."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
TENSOR = {"name": "x", "dtype": "float32", "shape": ["n", 3], "sample_shape": [1, 3]}
EMPTY = hashlib.sha256(b"").hexdigest()  # what the fuzzer's other files hold
OTHERS = dict.fromkeys(("model.onnx", "sample/inputs.npz", "sample/outputs.npz"), EMPTY)
FILES = {"engine": "e" * 64, **OTHERS}
PLAN = b"ftrt" + bytes(12) + (36).to_bytes(8, "little") + bytes([10, 16, 1, 5]) + bytes(8)


def engine(flavour: str, version: str, **more: Any) -> dict[str, Any]:
    """The manifest's entry of that name."""
    how = {"lowering": "dense", "precision": "fp32"}
    return {"flavour": flavour, "version": version, "file": "engine", **how, **more}


def manifest(**changes: Any) -> dict[str, Any]:
    """A small manifest that the runtime takes, with some of its entries replaced."""
    tensor = {**TENSOR, "sample_range": [0.0, 1.0]}
    return {
        "format": "pagbundle",
        "format_version": 3,
        "pagdeploy_version": "0.1.0",
        "engine": engine("onnxruntime", "1.20.1"),
        "host": {"system": "Linux", "machine": "x86_64", "python": "3.11.2"},
        "source_sha256": EMPTY,
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "y"}],
        "gates": [{"name": "g", "logits": "l", "selection": "s", "density": [0.25, 0.75]}],
        "ops": [],
        "files": FILES,
        "digest": "0" * 64,
        **changes,
    }


def seeds() -> dict[str, bytes]:
    """The seeds by name: bundles that open, and one for each way in which they do not."""
    good = manifest()
    profiles = [{"x": {"min": [1, 3], "opt": [1, 3], "max": [2, 3]}}]
    plan = {"profiles": profiles, "plugins": ["engine"], "version_compatible": True}
    deep = "[" * 2000 + "]" * 2000
    variants: dict[str, dict[str, Any]] = {
        "good": good,
        "plan": manifest(engine=engine("tensorrt", "10.16.1", plan=plan)),
        "library": manifest(engine={**good["engine"], "libraries": ["engine"]}),
        "escape": manifest(files={**FILES, "../outside": "e" * 64}),
        "absolute": manifest(files={**FILES, "/etc/passwd": "e" * 64}),
        "missing": manifest(files={**FILES, "gone": "e" * 64}),
        "unlisted": manifest(files={}),
        "wrong": manifest(files={**FILES, "engine": "f" * 64}),
        "version": manifest(format_version=2**64 - 1),
        "null": manifest(inputs=None),
        "no_gates": manifest(gates=[]),
    }
    for name, value in {
        "rank": [1] * 9,
        "huge": [2**63],
        "negative": [-1],
        "zero": ["a\0b"],
    }.items():
        tensor = copy.deepcopy(good["inputs"][0])
        tensor.update(shape=value, sample_shape=[1] * len(value))
        variants[name] = manifest(inputs=[tensor])
    found = {name: json.dumps(value).encode() + b"\f" + PLAN for name, value in variants.items()}
    weight = b"\x42\x01w\x70\x01"  # TensorProto: its name, and that its data lie elsewhere
    graph = b"\x2a" + bytes([len(weight)]) + weight
    onnx = b"\x08\x08\x3a" + bytes([len(graph)]) + graph  # ModelProto: IR version 8, and a graph
    found["outside"] = json.dumps(good).encode() + b"\f" + onnx
    found["deep"] = json.dumps(good).replace("[0.0, 1.0]", deep, 1).encode() + b"\f"
    found["overflow"] = json.dumps(good).replace("[0.0, 1.0]", "[1e400, 1]", 1).encode() + b"\f"
    found["unsealed"] = json.dumps(manifest(digest="f" * 64)).encode() + b"\f" + PLAN
    return found


def main() -> None:
    """Write them all; what else lies in the corpus stays."""
    CORPUS.mkdir(exist_ok=True)
    for name, content in seeds().items():
        (CORPUS / f"seed_{name}").write_bytes(content)


if __name__ == "__main__":
    main()
