"""Inspect: what a model, bundle, plan or plugin library is, with nothing run and nothing loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pagdeploy.bundle import MANIFEST, open_bundle
from pagdeploy.engines.nvidia.elf import is_elf
from pagdeploy.engines.nvidia.plan import is_plan
from pagdeploy.errors import UsageError
from pagdeploy.files import is_file
from pagdeploy.manifest import Manifest
from pagdeploy.verbs.inspect.gates import GateSummary, inspect_gates
from pagdeploy.verbs.inspect.model import ModelSummary, PerforatedRow, summarize_model
from pagdeploy.verbs.inspect.native import (
    LibrarySummary,
    PlanSummary,
    summarize_library,
    summarize_plan,
)

__all__ = [
    "BundleSummary",
    "GateSummary",
    "LibrarySummary",
    "ModelSummary",
    "PerforatedRow",
    "PlanSummary",
    "Summary",
    "inspect",
    "inspect_gates",
]

# Extensions decide only what a file is called that has no content of any kind that we know.
_PLANS, _LIBRARIES = {".engine", ".plan", ".trt"}, {".so"}


@dataclass(frozen=True)
class BundleSummary:
    """A bundle, every file of which is as it was built.

    Attributes:
        manifest: What it says.
        plan: Its TensorRT plan, if that is its engine.
    """

    manifest: Manifest
    plan: PlanSummary | None


Summary = BundleSummary | ModelSummary | PlanSummary | LibrarySummary


def inspect(path: Path) -> Summary:
    """Look at a file or bundle; what it is shows in its first bytes, not in its name.

    Raises:
        UsageError: there is nothing at the path, or it is a folder that is no bundle.
        IncompatibleArtifact: it is damaged, or none of these.
    """
    if path.is_dir() or path.name == MANIFEST:
        return _bundle(path if path.is_dir() else path.parent)
    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    if is_elf(path):
        return summarize_library(path)
    if is_plan(path):
        return summarize_plan(path)
    if path.suffix in _PLANS:
        return summarize_plan(path)
    if path.suffix in _LIBRARIES:
        return summarize_library(path)
    return summarize_model(path)


def _bundle(path: Path) -> BundleSummary:
    bundle = open_bundle(path)
    info = bundle.manifest.engine
    if info.plan is None:
        return BundleSummary(bundle.manifest, None)
    return BundleSummary(
        bundle.manifest, summarize_plan(bundle.file(info.file), info.plan, bundle=path)
    )
