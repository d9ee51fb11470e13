"""TensorRT: plans with our plugins, the fast path on NVIDIA GPUs.

Versions 10 and 11, strongly typed; 8.6 as far as its weaker typing allows. The CUDA driver is asked
for a GPU before TensorRT is touched: without one, its runtime looks healthy and then ends the
process.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pagdeploy.bundle import ENGINE_PLAN
from pagdeploy.engines.base import BuildOptions, Built
from pagdeploy.engines.nvidia.bindings import import_bindings
from pagdeploy.engines.nvidia.compile import compile_plan
from pagdeploy.engines.nvidia.driver import Gpu, gpus, kernel_driver, why_no_gpu
from pagdeploy.engines.nvidia.inspection import require_as_asked
from pagdeploy.engines.nvidia.network import custom_nodes
from pagdeploy.engines.nvidia.plugin_library import find_plugin_library, read_plugin_library
from pagdeploy.engines.nvidia.registry import load_libraries
from pagdeploy.engines.nvidia.session import PlanSession, load_plan
from pagdeploy.engines.nvidia.timing_cache import cache_path
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.manifest import PlanInfo

SUPPORTED = (8, 10, 11)  # major versions; 9 was never released for these GPUs


class TensorRtEngine:
    """TensorRT on this machine's GPU."""

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "tf32", "fp16", "bf16", "int8")
    integer_kernels: ClassVar[bool] = False
    file: ClassVar[str] = ENGINE_PLAN

    @property
    def lowerings(self) -> tuple[str, ...]:
        """What it takes."""
        return ("plugin", "dense")

    def available(self) -> str | None:
        """None, or why TensorRT cannot build here: first the GPU, then the installation."""
        if obstacle := why_no_gpu():
            return str(obstacle)
        try:
            _module()
        except EnvironmentProblem as problem:
            return str(problem)
        return None

    def runnable(self) -> str | None:
        """What is built here runs here."""
        return self.available()

    def version(self) -> str:
        """The version of TensorRT."""
        return str(_module().__version__)

    def build(self, model: bytes, options: BuildOptions) -> Built:
        """Build a plan for this machine's GPU.

        Args:
            model: A serialized ModelProto, lowered to `plugin` or `dense`.
            options: As the user asked.

        Raises:
            UsageError: an option is none of this TensorRT's.
            EnvironmentProblem: no GPU, no TensorRT, or no plugin library for it.
            BuildFailed: TensorRT refuses the model.
        """
        if problem := self.available():
            raise EnvironmentProblem("TensorRT cannot build here.", remedy=problem)
        trt = _module()
        _require_known_options(trt, options)
        libraries = [*options.plugins, *_own_library(trt, model, options.plugins)]
        load_libraries(trt, libraries, _major(trt))
        gpu = _gpu()
        kept = cache_path(f"tensorrt-{trt.__version__}", gpu.name, kernel_driver() or "")
        built = compile_plan(
            trt,
            model,
            options,
            plugins=libraries,
            compute_capabilities=[gpu.compute_capability],
            cache=(options.timing_cache or kept) if options.use_timing_cache else None,
        )
        session = load_plan(trt, self.name, built.content, built.plan, host_code=True)
        require_as_asked(session.layers(), [*session.inputs, *session.outputs], model)
        return built

    def load(
        self,
        engine: bytes,
        *,
        plan: PlanInfo | None = None,
        plugins: Sequence[Path] = (),
        threads: int = 0,
        taking_turns: bool = False,
        host_code: bool = False,
    ) -> PlanSession:
        """Load a plan on the GPU.

        Raises:
            UsageError: the plan holds code of its own, and that is not allowed.
            EnvironmentProblem: no GPU, no TensorRT, or a plugin library that does not load.
            IncompatibleArtifact: the plan is of another version or for another GPU.
        """
        if problem := self.available():
            raise EnvironmentProblem("A TensorRT plan cannot be run here.", remedy=problem)
        trt = _module()
        load_libraries(trt, plugins, _major(trt))
        return load_plan(trt, self.name, engine, plan, host_code)


def _require_known_options(trt: Any, options: BuildOptions) -> None:
    if options.precision == "bf16" and _major(trt) < 10:
        raise UsageError(
            f"TensorRT {trt.__version__} does not compute in bf16.",
            remedy="Choose fp16, or install TensorRT 10 or later.",
        )
    if not options.use_timing_cache and (
        options.timing_cache is not None or options.error_on_timing_cache_miss
    ):
        raise UsageError(
            "A timing cache is asked for and forbidden.", remedy="Leave --no-timing-cache out."
        )
    if options.compute_capabilities:
        raise UsageError(
            "TensorRT builds for the GPU of this machine.",
            remedy="Leave --compute-capability out, or build with --engine tensorrt-rtx.",
        )


def _own_library(trt: Any, model: bytes, given: Sequence[Path]) -> list[Path]:
    """Our plugin library, if the model has nodes of ours and it is not given already."""
    import onnx

    major = _major(trt)
    if not custom_nodes(onnx.ModelProto.FromString(model)):
        return []
    if any(read_plugin_library(path).tensorrt_major == major for path in given):
        return []
    found = find_plugin_library(major)
    if found is None:
        raise EnvironmentProblem(
            f"There is no plugin library for TensorRT {major}"
            f" (libpagdeploy_plugins_trt{major}.so).",
            remedy="Build it as docs/plugins.md says and set PAGDEPLOY_PLUGINS to its folder, or"
            " build with --lowering dense.",
        )
    return [found]


def _gpu() -> Gpu:
    """The GPU that TensorRT will use: the first that CUDA shows."""
    return gpus()[0]


def _major(trt: Any) -> int:
    return int(trt.__version__.split(".")[0])


@functools.cache
def _module() -> Any:
    """The bindings, with their libraries.

    Raises:
        EnvironmentProblem: they are not installed, lack their libraries, or are of a version that
            we do not know.
    """
    trt = import_bindings(("tensorrt",), "tensorrt", "Building for TensorRT")
    if _major(trt) not in SUPPORTED:
        raise EnvironmentProblem(
            f"TensorRT {trt.__version__} is not supported.",
            remedy="Install it as: pip install 'pagdeploy[tensorrt]'",
        )
    return trt
