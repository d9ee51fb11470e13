"""Plugin libraries: where ours is, and what a library is, without loading it.

A library is looked for in the files and folders that PAGDEPLOY_PLUGINS lists, separated by colons,
and then in the package's own folder pagdeploy/lib, where a platform wheel has it.
"""

from __future__ import annotations

import importlib.resources
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pagdeploy.engines.nvidia.driver import Gpu
from pagdeploy.engines.nvidia.elf import read_library
from pagdeploy.engines.nvidia.fatbin import GpuCode, read_gpu_code
from pagdeploy.engines.nvidia.linker import Linker, system_linker
from pagdeploy.engines.nvidia.obstacle import Obstacle
from pagdeploy.engines.nvidia.versions import numbers
from pagdeploy.errors import IncompatibleArtifact, PagdeployError
from pagdeploy.files import is_file

VARIABLE = "PAGDEPLOY_PLUGINS"
MAJORS = (8, 10, 11)  # of TensorRT, that the library can be built for

_ENTRY_POINTS = ("getCreators", "getPluginCreators", "setLoggerFinder")
_OURS = re.compile(r"libpagdeploy_plugins_(autoreg_)?trt(\d+)\.so")
_STATIC = "getPluginRegistry"  # what REGISTER_TENSORRT_PLUGIN calls while the library is loaded


@dataclass(frozen=True)
class PluginLibrary:
    """What a plugin library is, statically.

    Attributes:
        path: Of the file.
        machine: Processor it is for, as platform.machine() has it.
        tensorrt_major: TensorRT it was built for, by its soname; None if it is not one of ours.
        entry_points: Which of getCreators, getPluginCreators and setLoggerFinder it exports.
        registers_statically: Whether it registers itself when it is loaded.
        registers_another: Whether it is our small library for programs that only open libraries;
            it has TensorRT register the one beside it.
        needed: Sonames of the libraries that it needs.
        glibc: The oldest version it runs with.
        gpu_code: GPUs it has code for.
    """

    path: Path
    machine: str
    tensorrt_major: int | None
    entry_points: tuple[str, ...]
    registers_statically: bool
    registers_another: bool
    needed: tuple[str, ...]
    glibc: str | None
    gpu_code: GpuCode


def library_name(major: int) -> str:
    """File name and soname of our library for a major version of TensorRT."""
    return f"libpagdeploy_plugins_trt{major}.so"


def find_plugin_library(major: int, environment: Mapping[str, str] | None = None) -> Path | None:
    """Our plugin library for a major version of TensorRT, or None.

    A file that PAGDEPLOY_PLUGINS names is taken by its soname, whatever it is called; in a folder
    it must be called libpagdeploy_plugins_trt<major>.so.
    """
    for place in places(environment):
        path = place / library_name(major)
        if is_file(path):
            return path
        if is_file(place) and _major_of(place) == major:
            return place
    return None


def places(environment: Mapping[str, str] | None = None) -> Iterator[Path]:
    """The files and folders where plugin libraries are looked for, in order."""
    given = os.environ if environment is None else environment
    yield from (Path(entry) for entry in given.get(VARIABLE, "").split(os.pathsep) if entry)
    yield Path(str(importlib.resources.files("pagdeploy"))) / "lib"


def read_plugin_library(path: Path) -> PluginLibrary:
    """Look at a library; nothing of it is run.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not a shared library, or it is damaged.
    """
    library = read_library(path)
    ours = _OURS.fullmatch(library.soname or path.name)
    return PluginLibrary(
        path=path,
        machine=library.machine,
        tensorrt_major=int(ours.group(2)) if ours else None,
        entry_points=tuple(name for name in _ENTRY_POINTS if name in library.exports),
        registers_statically=_STATIC in library.undefined,
        registers_another=ours is not None and ours.group(1) is not None,
        needed=library.needed,
        glibc=library.newest("GLIBC_"),
        gpu_code=read_gpu_code(path),
    )


def why_not_loadable(path: Path, major: int) -> Obstacle | None:
    """None, or the first thing that keeps a TensorRT in this process from loading a library.

    Without this check TensorRT refuses a library in silence, or ends the process.
    """
    try:
        library = read_plugin_library(path)
        found = obstacles(library, major=major, gpu=None, linker=system_linker())
    except PagdeployError as problem:
        return Obstacle(problem.message, problem.remedy)
    return found[0] if found else None


def obstacles(
    library: PluginLibrary, *, major: int | None, gpu: Gpu | None, linker: Linker
) -> list[Obstacle]:
    """What keeps TensorRT from loading a plugin library, or its kernels from running.

    Args:
        library: As read.
        major: Major version of the TensorRT that is to load it, or None if that is open.
        gpu: The GPU that its kernels are to run on, or None if there is none.
        linker: How its dependencies are looked for.
    """
    name = library.path
    if library.machine != platform.machine():  # the rest would only repeat it
        here = platform.machine()
        reason = f"{name} is built for {library.machine}, and this machine is {here}."
        return [Obstacle(reason, _BUILD)]
    found = [] if library.registers_another else [*_registration(library, major)]
    kind, here = platform.libc_ver()
    if kind == "glibc" and library.glibc and numbers(library.glibc) > numbers(here):
        found.append(Obstacle(f"{name} needs glibc {library.glibc}, and {here} is here.", _BUILD))
    lacking = linker.missing(name, read_library(name, symbols=False))
    found += [
        Obstacle(f"{owner} needs {soname}, which cannot be found.", _install(soname))
        for soname, owner in lacking.items()
    ]
    plugins = not library.registers_another
    if gpu is not None and plugins and not library.gpu_code.runs_on(gpu.compute_capability):
        number = gpu.compute_capability.replace(".", "")
        found.append(
            Obstacle(
                f"{name} has no code for {gpu.name} (compute capability {gpu.compute_capability}).",
                f"Build it with -DPAGDEPLOY_CUDA_ARCHITECTURES={number}, as docs/plugins.md says.",
            )
        )
    return found


_BUILD = "Build it on this machine, as docs/plugins.md says."


def _registration(library: PluginLibrary, major: int | None) -> Iterator[Obstacle]:
    """How a TensorRT registry gets at its plugins."""
    name, exported = library.path, library.entry_points
    if library.registers_statically and f"libnvinfer.so.{major}" not in library.needed:
        yield Obstacle(
            f"{name} registers its plugins when it is loaded (it calls {_STATIC}), which crashes"
            " or does nothing in another major version of TensorRT.",
            "Build it without REGISTER_TENSORRT_PLUGIN, with getCreators and setLoggerFinder.",
        )
    creators = {"getPluginCreators"} if major == 8 else {"getCreators", "getPluginCreators"}
    lacking = [] if creators & set(exported) else [min(creators)]
    if "setLoggerFinder" not in exported and major != 8:  # 8.5 has none
        lacking.append("setLoggerFinder")
    if lacking:
        yield Obstacle(
            f"{name} does not export {' and '.join(lacking)}, without which TensorRT's registry"
            " loads no library.",
            "Export getCreators (getPluginCreators for TensorRT 8) and setLoggerFinder.",
        )
    elif major is not None and library.tensorrt_major not in (None, major):
        yield Obstacle(
            f"{name} is built for TensorRT {library.tensorrt_major}, and {major} is installed.",
            f"Build it with the headers of TensorRT {major}, as docs/plugins.md says.",
        )


def _install(soname: str) -> str:
    if soname.startswith("libnvinfer"):
        return "A plugin library must not link TensorRT; build it without."
    return f"Install the package that has {soname}, or add its folder to LD_LIBRARY_PATH."


def _major_of(path: Path) -> int | None:
    try:
        soname = read_library(path, symbols=False).soname
    except IncompatibleArtifact:
        return None
    ours = _OURS.fullmatch(soname or path.name)
    return int(ours.group(2)) if ours and not ours.group(1) else None
