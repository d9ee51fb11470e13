"""Our TensorRT plugin library: whether it is there, and whether it can be loaded and run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pagdeploy.engines.nvidia.libraries import find_libraries
from pagdeploy.engines.nvidia.plugin_library import (
    MAJORS,
    VARIABLE,
    find_plugin_library,
    library_name,
    obstacles,
    read_plugin_library,
)
from pagdeploy.errors import PagdeployError
from pagdeploy.verbs.doctor.finding import Finding, Machine

_BUILD = f"Build it as docs/plugins.md says, and set {VARIABLE} to its folder."


def findings(machine: Machine) -> Iterator[Finding]:
    """One library for each TensorRT that is here; without TensorRT, those that are there."""
    yield from _empty_places(machine)
    installed = _installed_majors(machine)
    for major in installed or MAJORS:
        path = find_plugin_library(major, machine.environment)
        if path is not None:
            yield from _library(path, major, machine)
        elif installed:
            found = f"{library_name(major)} is not found"
            yield Finding("plugin library", "absent", found, _BUILD)
    if not installed and not any(find_plugin_library(m, machine.environment) for m in MAJORS):
        yield Finding("plugin library", "absent", "none found", f"For TensorRT: {_BUILD}")


def _installed_majors(machine: Machine) -> list[int]:
    """Major versions of the TensorRTs that could load it; -RTX takes no plugins."""
    sonames = (library.soname for library in find_libraries(machine.site, machine.linker))
    found = {re.fullmatch(r"libnvinfer(?:_lean)?\.so\.(\d+)", soname) for soname in sonames}
    return sorted({int(match.group(1)) for match in found if match})


def _empty_places(machine: Machine) -> Iterator[Finding]:
    for entry in machine.environment.get(VARIABLE, "").split(os.pathsep):
        if entry and not Path(entry).exists():
            found = f"it names {entry}, which is not there"
            yield Finding(VARIABLE, "problem", found, "Correct it, or unset it.")


def _library(path: Path, major: int, machine: Machine) -> Iterator[Finding]:
    subject = f"plugin library for TensorRT {major}"
    gpus = machine.driver.gpus or (None,)
    try:
        library = read_plugin_library(path)
        wrong = [
            obstacle
            for gpu in gpus
            for obstacle in obstacles(library, major=major, gpu=gpu, linker=machine.linker)
        ]
    except PagdeployError as problem:
        yield Finding(subject, "problem", problem.message, problem.remedy)
        return
    for obstacle in dict.fromkeys(wrong):
        yield Finding.of(subject, "problem", obstacle)
    if not wrong:
        code = ", ".join((*library.gpu_code.sass, *library.gpu_code.ptx)) or "no GPU code"
        yield Finding(subject, "ok", f"{path}: {code}")
