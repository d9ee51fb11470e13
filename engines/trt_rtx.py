"""TensorRT-RTX: plans for consumer GPUs, built on any machine, also one without a GPU.

It takes no plugins and has no NonZero, so it gets the dense lowering: every pixel is computed. What
it gains over the exported model is TensorRT's fusion, not perforation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pagdeploy.bundle import ENGINE_PLAN
from pagdeploy.engines.base import BuildOptions, Built, flags_asked
from pagdeploy.engines.nvidia.bindings import import_bindings
from pagdeploy.engines.nvidia.compile import compile_plan
from pagdeploy.engines.nvidia.driver import why_no_gpu
from pagdeploy.engines.nvidia.session import PlanSession, load_plan
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.manifest import PlanInfo

_OBEYED = (
    "--min-shapes",
    "--mem-pool-size",
    "--builder-optimization-level",
    "--compute-capability",
)
_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")  # the second is what a bare wheel offers


class TensorRtRtxEngine:
    """TensorRT-RTX, with its own parser and its own plan format."""

    name: ClassVar[str] = "tensorrt-rtx"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "tf32", "fp16", "bf16", "int8")
    integer_kernels: ClassVar[bool] = False
    file: ClassVar[str] = ENGINE_PLAN

    @property
    def lowerings(self) -> tuple[str, ...]:
        """What it takes."""
        return ("dense",)

    def available(self) -> str | None:
        """None, or why TensorRT-RTX is not here; it builds without a GPU."""
        try:
            _module()
        except EnvironmentProblem as problem:
            return str(problem)
        return None

    def runnable(self) -> str | None:
        """None, or why a plan cannot be run here."""
        if problem := self.available():
            return problem
        obstacle = why_no_gpu()
        return None if obstacle is None else str(obstacle)

    def version(self) -> str:
        """The version of TensorRT-RTX."""
        return str(_module().__version__)

    def build(self, model: bytes, options: BuildOptions) -> Built:
        """Build a plan for the asked GPUs.

        Args:
            model: A serialized ModelProto, lowered densely.
            options: `compute_capabilities` is empty for all that TensorRT-RTX knows.

        Raises:
            UsageError: an option is not one of TensorRT-RTX.
            EnvironmentProblem: TensorRT-RTX is not installed.
            BuildFailed: it refuses the model.
        """
        trt = _module()
        for flag in flags_asked(options):
            if flag not in _OBEYED:
                raise UsageError(
                    f"TensorRT-RTX has no use for {flag}.",
                    remedy="Leave it out; its plans serve every GPU of --compute-capability.",
                )
        known = _capabilities(trt, options.precision)
        wanted = list(options.compute_capabilities) or list(known)
        for capability in wanted:
            if capability not in known:
                raise UsageError(
                    f"TensorRT-RTX {trt.__version__} builds nothing in {options.precision} for"
                    f" compute capability {capability}.",
                    remedy=f"Choose from: {', '.join(known)}.",
                )

        def choose_gpus(config: Any) -> None:
            config.num_compute_capabilities = len(wanted)
            for index, capability in enumerate(wanted):
                config.set_compute_capability(known[capability], index)

        return compile_plan(trt, model, options, compute_capabilities=wanted, adjust=choose_gpus)

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
            EnvironmentProblem: there is no GPU, or no TensorRT-RTX.
            IncompatibleArtifact: the plan is not for this GPU or this version.
        """
        if problem := self.runnable():
            raise EnvironmentProblem("A TensorRT-RTX plan cannot be run here.", remedy=problem)
        return load_plan(_module(), self.name, engine, plan, host_code)


def _capabilities(trt: Any, precision: str) -> dict[str, Any]:
    """Compute capabilities that can be built for, such as "8.9"; bfloat16 begins with 8.0."""
    found = {}
    for name in dir(trt.ComputeCapability):
        if name.startswith("SM") and name[2:].isdigit():
            found[f"{name[2:-1]}.{name[-1]}"] = getattr(trt.ComputeCapability, name)
    oldest = 8.0 if precision == "bf16" else 0.0
    numbered = sorted((float(name), name) for name in found)
    return {name: found[name] for number, name in numbered if number >= oldest}


@functools.cache
def _module() -> Any:
    return import_bindings(_MODULES, "tensorrt-rtx", "Building for TensorRT-RTX")
