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
from pagdeploy.errors import BuildFailed
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
    notes = []
    if cache is not None and not timing_cache.attach(config, cache, options.timing_cache_seed):
        notes.append(f"The first build here measures every kernel; {cache} makes later ones quick.")
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
    )
    return Built(
        content=bytes(content),
        plan=info,
        plugins=tuple(plugins),
        timing_cache=None if cache is None else timing_cache.keep(config, cache),
        notes=notes,
    )
