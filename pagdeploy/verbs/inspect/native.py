"""What a plan or a plugin library is, and whether it could be used here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.engines.nvidia.driver import gpus
from pagdeploy.engines.nvidia.plan import PlanHeader, read_plan_header
from pagdeploy.engines.nvidia.plugin_library import PluginLibrary, read_plugin_library

if TYPE_CHECKING:
    from pagdeploy.manifest import PlanInfo


@dataclass(frozen=True)
class PlanSummary:
    """A TensorRT plan.

    Attributes:
        header: What it says of itself.
        why_not_here: What keeps it from being loaded here, and the remedy; None if nothing does.
    """

    header: PlanHeader
    why_not_here: str | None


@dataclass(frozen=True)
class LibrarySummary:
    """A plugin library.

    Attributes:
        library: What it is.
        why_not_here: What keeps TensorRT from loading it here, or its kernels from running.
    """

    library: PluginLibrary
    why_not_here: list[str]


def summarize_plan(
    path: Path, plan: PlanInfo | None = None, bundle: Path | None = None
) -> PlanSummary:
    """Look into a plan; `plan` and `bundle` are given if it belongs to one.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is no plan, or it is damaged.
    """
    from pagdeploy.engines.nvidia.compatibility import why_not_loadable
    from pagdeploy.engines.nvidia.libraries import find_libraries, installed_version
    from pagdeploy.engines.nvidia.linker import system_linker

    header = read_plan_header(path)
    site = [Path(folder) for folder in sys.path if Path(folder).is_dir()]
    installed = installed_version(header.flavour, find_libraries(site, system_linker()))
    obstacle = why_not_loadable(
        header,
        runtime=header.flavour,
        installed=installed,
        gpu=next(iter(gpus()), None),
        plan=plan,
        bundle=bundle,
    )
    return PlanSummary(header, None if obstacle is None else str(obstacle))


def summarize_library(path: Path) -> LibrarySummary:
    """Look into a plugin library.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is no shared library, or it is damaged.
    """
    from pagdeploy.engines.nvidia.linker import system_linker
    from pagdeploy.engines.nvidia.plugin_library import obstacles

    library = read_plugin_library(path)
    gpu = next(iter(gpus()), None)
    found = obstacles(library, major=library.tensorrt_major, gpu=gpu, linker=system_linker())
    return LibrarySummary(library, [str(obstacle) for obstacle in found])
