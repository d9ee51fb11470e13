"""Whether a plan can be loaded here, decided before TensorRT sees it."""

from __future__ import annotations

import shlex
from pathlib import Path

from pagdeploy.engines.nvidia.driver import Gpu
from pagdeploy.engines.nvidia.obstacle import Obstacle
from pagdeploy.engines.nvidia.plan import PlanHeader
from pagdeploy.engines.nvidia.versions import numbers
from pagdeploy.manifest import PlanInfo


def why_not_loadable(
    header: PlanHeader,
    *,
    runtime: str,
    installed: str | None,
    gpu: Gpu | None,
    plan: PlanInfo | None = None,
    bundle: Path | None = None,
) -> Obstacle | None:
    """None, or the first thing that keeps a plan from being loaded.

    Args:
        header: Of the plan.
        runtime: What is to load it: "tensorrt" or "tensorrt-rtx".
        installed: Full version of that runtime, or None if it is not installed.
        gpu: The GPU it is to run on, or None if there is none.
        plan: What its bundle's manifest says of it; a bare plan is taken to be tied to the
            version and to the GPU that it was built for.
        bundle: Where it lies, for the command that builds it again.
    """
    if header.flavour != runtime:
        return Obstacle(
            f"The plan was built with {header}, which {runtime} cannot load.",
            _rebuild(runtime, bundle, f" --engine {runtime}"),
        )
    again = _rebuild(header.flavour, bundle)
    if installed is None:
        return Obstacle(
            f"The plan was built with {header}, and no {runtime} is installed here.",
            f"Install it with: pip install 'pagdeploy[{runtime}]'",
            missing=True,
        )
    if not _version_fits(header.version, installed, plan is not None and plan.version_compatible):
        return Obstacle(f"The plan was built with {header}, and {installed} is installed.", again)
    if gpu is None:
        return Obstacle(
            "The plan needs an NVIDIA GPU, and there is none here.",
            "Run 'pagdeploy doctor' to see why.",
            missing=True,
        )
    wanted = header.compute_capabilities or tuple(plan.compute_capabilities if plan else ())
    if not _gpu_fits(wanted, gpu, plan.hardware_compatibility if plan else "none"):
        return Obstacle(
            f"The plan was built for GPUs of compute capability {' or '.join(wanted)}, and"
            f" {gpu.name} has {gpu.compute_capability}.",
            again,
        )
    return None


def _rebuild(flavour: str, bundle: Path | None, option: str = "") -> str:
    if bundle is None:
        return (
            "Build it again here from its ONNX model: pagdeploy build MODEL.onnx"
            f" --engine {flavour} -o NEW.pagbundle"
        )
    name = shlex.quote(str(bundle))
    return f"Build it again here: pagdeploy build --from-bundle {name}{option} -o NEW.pagbundle"


def _version_fits(built: str | None, installed: str, compatible: bool) -> bool:
    """Equal in every part that both name, or compatible and not newer than what is installed."""
    there = numbers(installed)
    if built is None:  # the header is of the days of 8.5, and says no more
        return there < (8, 6)
    pairs = list(zip(numbers(built), there, strict=False))
    same = all(a == b for a, b in pairs)
    return same or (compatible and [a for a, _ in pairs] < [b for _, b in pairs])


def _gpu_fits(wanted: tuple[str, ...], gpu: Gpu, compatibility: str) -> bool:
    """Whether the GPU is one of those; an empty list promises nothing and forbids nothing."""
    if compatibility == "ampere_plus":
        return numbers(gpu.compute_capability) >= (8, 0)
    return not wanted or gpu.compute_capability in wanted
