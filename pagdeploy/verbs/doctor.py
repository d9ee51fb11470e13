"""Doctor: what is installed, what is missing, what to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

Status = Literal["ok", "absent", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        status: "ok"; "absent" if something optional is not there; "problem" if it must be mended.
        found: Version or reason.
        remedy: What to do; empty if nothing.
    """

    subject: str
    status: Status
    found: str
    remedy: str = ""


def doctor() -> list[Finding]:
    """Look at this machine; nothing is changed and no large library is loaded but onnxruntime."""
    return [
        _python(),
        *(_required(name) for name in ("numpy", "onnx", "onnx-ir", "onnxscript")),
        _ceilings(),
        *_onnxruntime(),
        _optional("torch", "export", "exporting and training"),
        _optional("safetensors", "export", "reading .safetensors checkpoints"),
        _optional("matplotlib", "report", "pictures in reports"),
        _optional("tensorrt", "tensorrt", "TensorRT engines"),
        *(
            _tool(command, flag, purpose)
            for command, flag, purpose in (
                ("c++", "--version", "building the native parts"),
                ("cmake", "--version", "building the native parts"),
                ("nvcc", "--version", "building the CUDA kernels"),
            )
        ),
        _gpu(),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok", found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required(name: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "problem", "not installed", f"pip install {name}")
    return Finding(name, "ok", version)


def _optional(name: str, extra: str, purpose: str) -> Finding:
    version = _version(name)
    if version is None:
        advice = f"For {purpose}: pip install 'pagdeploy[{extra}]'"
        return Finding(name, "absent", "not installed", advice)
    if util.find_spec(name) is None:
        return Finding(name, "problem", f"{version}, but it cannot be found", "Install it again.")
    return Finding(name, "ok", version)


def _ceilings() -> Finding:
    import onnx

    return Finding(
        "onnx ceilings", "ok", f"opset {onnx.defs.onnx_opset_version()}, IR {onnx.IR_VERSION}"
    )


def _onnxruntime() -> list[Finding]:
    from pagdeploy.engines.ort import OnnxRuntimeEngine, installed_onnxruntimes

    engine = OnnxRuntimeEngine()
    if problem := engine.available():
        return [Finding("onnxruntime", "problem", "not installed", problem)]
    installed = installed_onnxruntimes()
    findings = [Finding("onnxruntime", "ok", engine.version())]
    if len(installed) > 1:
        findings.append(
            Finding(
                "onnxruntime packages",
                "problem",
                f"{' and '.join(installed)} overwrite each other's files",
                "Uninstall both, then install the one that you want.",
            )
        )
    findings.append(_self_test(engine))
    return findings


def _self_test(engine: object) -> Finding:
    """Run a gate through its function body: proves that this runtime takes portable models."""
    import numpy as np
    import onnx
    import onnx.parser

    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.errors import PagdeployError
    from pagdeploy.ops.bodies import attach_bodies

    assert isinstance(engine, OnnxRuntimeEngine)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        "gate (float[1, 2, 1, 2] logits) => (int32[1, 1, 1, 2] selection)"
        "{ selection = pagdeploy.PAGGate (logits) }"
    )
    logits = np.array([[[[0.0, 1.0]], [[0.0, 2.0]]]], np.float32)  # a tie, then branch 1
    try:
        session = engine.load(attach_bodies(model).SerializeToString())
        answer = session.run({"logits": logits})["selection"].ravel().tolist()
    except PagdeployError as problem:
        return Finding("portable model", "problem", str(problem), "Update onnxruntime.")
    if answer != [0, 1]:
        return Finding(
            "portable model",
            "problem",
            f"a gate answers {answer}, not [0, 1]",
            "Update onnxruntime.",
        )
    return Finding("portable model", "ok", "a gate runs through its function body")


def _tool(command: str, flag: str, purpose: str) -> Finding:
    path = shutil.which(command)
    if path is None:
        return Finding(command, "absent", "not on the PATH", f"Install it for {purpose}.")
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Finding(command, "problem", f"does not start: {problem}", "Install it again.")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    # nvcc prints a copyright first and its release last.
    return Finding(
        command, "ok", (lines[-1] if command == "nvcc" and lines else lines[0] if lines else "?")
    )


def _gpu() -> Finding:
    path = shutil.which("nvidia-smi")
    if path is None:
        cores = len(os.sched_getaffinity(0))
        return Finding("nvidia gpu", "absent", f"none found; {cores} CPU cores will be used")
    query = [path, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Finding("nvidia gpu", "problem", f"nvidia-smi fails: {problem}", "Check the driver.")
    if done.returncode != 0:
        return Finding(
            "nvidia gpu", "problem", done.stdout.strip() or "nvidia-smi fails", "Check the driver."
        )
    return Finding("nvidia gpu", "ok", "; ".join(done.stdout.strip().splitlines()))
