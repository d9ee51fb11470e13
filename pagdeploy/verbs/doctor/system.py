"""The system: C library, cache folder, and the tools that build the native parts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pagdeploy.verbs.doctor.finding import Finding, Machine

_TOOLS = (
    ("c++", "building the native parts"),
    ("cmake", "building the native parts"),
    ("nvcc", "building the CUDA kernels"),
)
_TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")  # where Debian's packages and JetPack put it


def findings(machine: Machine) -> Iterator[Finding]:
    """What the system brings."""
    yield _c_library()
    yield _cache()
    for command, purpose in _TOOLS:
        yield _tool(command, purpose, machine)
    yield _trtexec(machine)


def _c_library() -> Finding:
    kind, version = platform.libc_ver()
    if kind != "glibc":
        advice = "NVIDIA's libraries need glibc; for the GPU use a system that has it."
        return Finding("glibc", "absent", "another C library", advice)
    return Finding("glibc", "ok", version)


def _cache() -> Finding:
    """Whether the cache folder can be written, or made; nothing is."""
    from platformdirs import user_cache_path

    path = user_cache_path("pagdeploy")
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("cache", "ok", str(path))
    return Finding(
        "cache",
        "problem",
        f"{path} cannot be {'written to' if there == path else 'made'}",
        "Set XDG_CACHE_HOME to a folder that you can write to.",
    )


def _tool(command: str, purpose: str, machine: Machine) -> Finding:
    path = shutil.which(command, path=machine.environment.get("PATH", ""))
    if path is None:
        return Finding(command, "absent", "not on the PATH", f"Install it for {purpose}.")
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Finding(command, "problem", f"does not start: {problem}", "Install it again.")
    lines = [line for line in done.stdout.splitlines() if line.strip()] or ["?"]
    # nvcc prints a copyright first and its release last.
    return Finding(command, "ok", lines[-1] if command == "nvcc" else lines[0])


def _trtexec(machine: Machine) -> Finding:
    path = shutil.which("trtexec", path=machine.environment.get("PATH", ""))
    if path is not None:
        return Finding("trtexec", "ok", path)
    if _TRTEXEC.is_file():
        return Finding("trtexec", "ok", f"{_TRTEXEC}, not on the PATH")
    return Finding(
        "trtexec",
        "absent",
        "not on the PATH",
        "Optional: it comes with TensorRT's tar and Debian packages, not with pip's.",
    )
