"""Write the seeds of the bundle fuzzer: make_corpus.py. See bundle_fuzzer.cpp for their form."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
TENSOR = {"name": "x", "dtype": "float32", "shape": ["n", 3], "sample_shape": [1, 3]}
PLAN = b"ftrt" + bytes(12) + (36).to_bytes(8, "little") + bytes([10, 16, 1, 5]) + bytes(8)


def manifest(**changes: Any) -> dict[str, Any]:
    """A small manifest that the runtime takes, with some of its entries replaced."""
    tensor = {**TENSOR, "sample_range": [0.0, 1.0]}
    return {
        "format": "pagbundle",
        "format_version": 3,
        "engine": {"flavour": "onnxruntime", "version": "1.20.1", "file": "engine"},
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "y"}],
        "gates": [{"name": "g", "density": [0.25, 0.75]}],
        "files": {"engine": "e" * 64},
        "digest": "0" * 64,
        **changes,
    }


def seeds() -> dict[str, bytes]:
    """The seeds by name: bundles that open, and one for each way in which they do not."""
    good = manifest()
    trt = {"flavour": "tensorrt", "version": "10.16.1", "file": "engine"}
    plan = {"plugins": ["engine"], "version_compatible": True, "embeds_plugins": False}
    deep = "[" * 2000 + "]" * 2000
    variants: dict[str, dict[str, Any]] = {
        "good": good,
        "plan": manifest(engine={**trt, "plan": plan}),
        "library": manifest(engine={**good["engine"], "libraries": ["engine"]}),
        "escape": manifest(files={"engine": "e" * 64, "../outside": "e" * 64}),
        "absolute": manifest(files={"engine": "e" * 64, "/etc/passwd": "e" * 64}),
        "missing": manifest(files={"engine": "e" * 64, "gone": "e" * 64}),
        "unlisted": manifest(files={}),
        "wrong": manifest(files={"engine": "f" * 64}),
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
