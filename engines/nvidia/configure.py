"""The builder's configuration, the same request on every version of TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pagdeploy.engines.base import BuildOptions
from pagdeploy.engines.nvidia.network import strongly_typed
from pagdeploy.errors import UsageError
from pagdeploy.manifest import Profile

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
_SPELLINGS = {"ampere+": "ampere_plus", "sameComputeCapability": "same_compute_capability"}


def hardware_compatibility(word: str) -> str:
    """Our word for a level, from our spelling or trtexec's.

    Raises:
        UsageError: it is neither.
    """
    level = _SPELLINGS.get(word, word.replace("-", "_"))
    if level in HARDWARE_COMPATIBILITY:
        return level
    raise UsageError(
        f"There is no hardware compatibility level {word!r}.",
        remedy=f"Choose one of: {', '.join(HARDWARE_COMPATIBILITY)}.",
    )


def make_config(
    trt: Any, builder: Any, network: Any, options: BuildOptions, embedded: Sequence[Path] = ()
) -> Any:
    """A configuration for one build.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        builder: Its Builder.
        network: What is to be built.
        options: As the user asked.
        embedded: Plugin libraries to store inside of the plan.

    Raises:
        UsageError: this TensorRT lacks what an option asks for, or a profile does not fit.
    """
    config = builder.create_builder_config()
    if hasattr(trt, "ProfilingVerbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # layer names and types
    _set_flag(trt, config, "TF32", options.precision == "tf32")
    if not strongly_typed(trt):
        _obey_types(trt, network, config)
    for name, size in options.memory_pools.items():
        config.set_memory_pool_limit(_pool(trt, name), size)
    if options.builder_optimization_level is not None:
        _require(trt, hasattr(config, "builder_optimization_level"), "--builder-optimization-level")
        config.builder_optimization_level = options.builder_optimization_level
    if options.version_compatible:
        _require(trt, hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"), "--version-compatible")
        _set_flag(trt, config, "VERSION_COMPATIBLE", True)
    if options.hardware_compatibility != "none":
        _require(trt, hasattr(trt, "HardwareCompatibilityLevel"), "--hardware-compatibility-level")
        level = getattr(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper(), None
        )
        _require(trt, level is not None, "--hardware-compatibility-level")
        config.hardware_compatibility_level = level
    if options.error_on_timing_cache_miss:
        _require(
            trt,
            hasattr(trt.BuilderFlag, "ERROR_ON_TIMING_CACHE_MISS"),
            "--error-on-timing-cache-miss",
        )
        _set_flag(trt, config, "ERROR_ON_TIMING_CACHE_MISS", True)
    if embedded:
        config.plugins_to_serialize = [str(path) for path in embedded]
    for profile in options.profiles:
        _add_profile(builder, config, profile)
    if options.progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, options.progress)
    return config


def _set_flag(trt: Any, config: Any, name: str, value: bool) -> None:
    flag = getattr(trt.BuilderFlag, name)
    if value:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)


def _obey_types(trt: Any, network: Any, config: Any) -> None:
    """Weakly typed TensorRT chooses precisions itself, unless each layer is told."""
    halves = (trt.DataType.HALF,)
    floats = (trt.DataType.FLOAT, *halves)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        types = [layer.get_output(k).dtype for k in range(layer.num_outputs)]
        if layer.type in (trt.LayerType.CONSTANT, trt.LayerType.SHAPE) or not types:
            continue
        if any(kind in halves for kind in types):
            config.set_flag(trt.BuilderFlag.FP16)
        # A gate puts out integers: what it computes in is what it reads.
        reads = [layer.get_input(k) for k in range(layer.num_inputs)]
        read = [tensor.dtype for tensor in reads if tensor is not None]
        precision = next((kind for kind in (types[0], *read) if kind in floats), None)
        if precision is not None:
            layer.precision = precision
        for k, kind in enumerate(types):
            if kind in floats:
                layer.set_output_type(k, kind)
        if layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE):
            config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def _pool(trt: Any, name: str) -> Any:
    kinds = {
        kind.lower(): getattr(trt.MemoryPoolType, kind)
        for kind in ("WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM")
        if hasattr(trt.MemoryPoolType, kind)
    }
    kinds |= {"tactic_dram": trt.MemoryPoolType.TACTIC_DRAM}
    if name not in kinds:
        raise UsageError(
            f"There is no memory pool {name!r}.", remedy=f"Choose one of: {', '.join(kinds)}."
        )
    return kinds[name]


def _require(trt: Any, present: bool, flag: str) -> None:
    if not present:
        raise UsageError(
            f"TensorRT {trt.__version__} does not know what {flag} asks for.",
            remedy="Leave it out, or update TensorRT.",
        )


def _add_profile(builder: Any, config: Any, shapes: Mapping[str, Profile]) -> None:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.min, shape.opt, shape.max)
    if config.add_optimization_profile(profile) < 0:
        listing = "; ".join(f"{n} {s.min} {s.opt} {s.max}" for n, s in shapes.items())
        raise UsageError(
            f"TensorRT refuses the optimization profile {listing}.",
            remedy="Give every dynamic input a smallest, an expected and a largest shape.",
        )


def _monitor(trt: Any, progress: Callable[[str, int, int], None]) -> Any:
    """The builder's outermost phase as steps; TensorRT nests dozens below it."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = (parent_phase, num_steps)
            if parent_phase is None:
                progress(phase_name, 1, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps = self.phases.get(phase_name, ("", 1))
            if parent is None:
                progress(phase_name, min(step + 2, steps), steps)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()
