"""From a lowered model to a plan: parse, configure, build, and check what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pagdeploy.engines.base import BuildOptions, Built
from pagdeploy.engines.nvidia import timing_cache
from pagdeploy.engines.nvidia.configure import make_config
from pagdeploy.engines.nvidia.log import last_error, make_log
from pagdeploy.engines.nvidia.network import parse_network, runtime_name
from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.manifest import PlanInfo

Adjust = Callable[[Any], None]


def compile_plan(
    trt: Any,
    model: bytes,
    options: BuildOptions,
    *,
    plugins: Sequence[Path] = (),
    compute_capabilities: Sequence[str] = (),
    cache: Path | None = None,
    adjust: Adjust | None = None,
) -> Built:
    """Build a plan.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`; the plugin libraries are loaded already.
        model: A serialized ModelProto, lowered, without function bodies of ours.
        options: As the user asked.
        plugins: Libraries that the plan needs.
        compute_capabilities: Of the GPUs that it is built for.
        cache: Timing cache to use and to extend; None for a TensorRT that keeps none.
        adjust: Changes the configuration where a flavour differs.

    Raises:
        UsageError: an option does not fit this TensorRT or this model.
        BuildFailed: the parser or the builder refuses the model, or the network is of other
            types than the model says.
    """
    log = make_log(trt)
    builder = trt.Builder(log)
    network = parse_network(trt, builder, log, model)
    # Only a version-compatible plan may carry libraries: others hold no code of a host's.
    embedded = list(plugins) if options.version_compatible else []
    config = make_config(trt, builder, network, options, embedded)
    if adjust is not None:
        adjust(config)
    notes = [] if cache is None else _use_cache(config, cache, options)
    content = builder.build_serialized_network(network, config)
    if content is None:
        raise BuildFailed(
            f"{runtime_name(trt)} builds no engine ({last_error(log, 'it gives no reason')}).",
            remedy="See all that it says with -vv.",
        )
    info = PlanInfo(
        profiles=[dict(profile) for profile in options.profiles],
        plugins=[path.name for path in plugins],
        embeds_plugins=bool(embedded),
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        compute_capabilities=list(compute_capabilities),
        builder_optimization_level=options.builder_optimization_level,
        memory_pools=dict(options.memory_pools),
    )
    return Built(
        content=bytes(content),
        plan=info,
        plugins=tuple(plugins),
        timing_cache=None if cache is None else _keep_cache(config, cache, notes),
        notes=notes,
    )


def _use_cache(config: Any, cache: Path, options: BuildOptions) -> list[str]:
    """Attach the cache; returns what the user should know of it."""
    named = options.timing_cache is not None
    seed = options.timing_cache_seed
    paths = [cache] if seed is None else [cache, seed]
    used = timing_cache.attach(config, paths, named=named)
    try:
        timing_cache.require_writable(cache)
    except UsageError as problem:
        if named:
            raise
        return [f"What is measured is not kept: {problem.message}"]
    return [] if used else [f"The first build measures every kernel; {cache} makes others quick."]


def _keep_cache(config: Any, cache: Path, notes: list[str]) -> bytes:
    """Keep the measurements where that is possible; the bundle holds them in any case."""
    try:
        return timing_cache.keep(config, cache)
    except UsageError as problem:
        notes.append(f"What was measured is not kept: {problem.message}")
        return bytes(config.get_timing_cache().serialize())
