"""pagdeploy build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagdeploy.cli.console import (
    Inputs,
    Json,
    Quiet,
    Shapes,
    Verbose,
    log_passes,
    print_json,
    progress,
    reported,
)
from pagdeploy.errors import UsageError

if TYPE_CHECKING:
    from pagdeploy.verbs.build import BuildResult

_PRECISION, _PLANS = "Precision", "TensorRT engines"
_SHAPES = "NAME:1x3x480x640"


@reported
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle: NAME.pagbundle.")],
    model: Annotated[Path | None, typer.Argument(help="Portable ONNX file.")] = None,
    from_bundle: Annotated[
        Path | None,
        typer.Option("--from-bundle", help="Build the model of this bundle again, for here."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="onnxruntime, onnxruntime-cuda, tensorrt or tensorrt-rtx; by default tensorrt"
            " where it can be used, else onnxruntime.",
        ),
    ] = None,
    lowering: Annotated[
        str, typer.Option("--lowering", help="gather, plugin or dense; auto times them.")
    ] = "auto",
    shapes: Shapes = None,
    inputs: Inputs = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", help="fp32, tf32, fp16, bf16 or int8.", rich_help_panel=_PRECISION
        ),
    ] = None,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-fp32",
            metavar="REGEX",
            help="Nodes that stay float32; repeatable.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            "--calibration-data",
            "--calibrate",
            metavar="FILE.npz",
            help="Typical requests, stacked in the first axis: lowerings are chosen by the"
            " densities that they cause; int8 is scaled by their ranges.",
        ),
    ] = None,
    min_shapes: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_SHAPES,
            help="Smallest shapes; an input that comes again begins the next profile.",
            rich_help_panel=_PLANS,
        ),
    ] = None,
    opt_shapes: Annotated[
        list[str] | None,
        typer.Option(metavar=_SHAPES, help="Expected shapes.", rich_help_panel=_PLANS),
    ] = None,
    max_shapes: Annotated[
        list[str] | None,
        typer.Option(metavar=_SHAPES, help="Largest shapes.", rich_help_panel=_PLANS),
    ] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(help="Further plugin library; repeatable.", rich_help_panel=_PLANS),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            help="Where measurements are kept; by default the user's cache folder.",
            rich_help_panel=_PLANS,
        ),
    ] = None,
    no_timing_cache: Annotated[
        bool, typer.Option("--no-timing-cache", help="Measure anew.", rich_help_panel=_PLANS)
    ] = False,
    error_on_timing_cache_miss: Annotated[
        bool,
        typer.Option(
            "--error-on-timing-cache-miss",
            help="Fail rather than measure.",
            rich_help_panel=_PLANS,
        ),
    ] = False,
    builder_optimization_level: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="How long to search.", rich_help_panel=_PLANS),
    ] = None,
    mem_pool_size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="workspace:4096",
            help="Largest memory pool, in MiB or with K, M, G; repeatable.",
            rich_help_panel=_PLANS,
        ),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Newer TensorRTs may load it.", rich_help_panel=_PLANS
        ),
    ] = False,
    hardware_compatibility_level: Annotated[
        str,
        typer.Option(help="none, ampere_plus or same_compute_capability.", rich_help_panel=_PLANS),
    ] = "none",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="8.9",
            help="GPU to build for, with tensorrt-rtx; by default all; repeatable.",
            rich_help_panel=_PLANS,
        ),
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a bundle: an engine for this machine, with its proof and its portable model."""
    from pagdeploy.bundle import read_arrays
    from pagdeploy.engines.base import BuildOptions
    from pagdeploy.engines.nvidia.configure import hardware_compatibility
    from pagdeploy.verbs.build import build as run
    from pagdeploy.verbs.inputs import input_names, parse_shapes, requested
    from pagdeploy.verbs.profiles import shapes_by_profile
    from pagdeploy.verbs.rebuild import rebuild

    source = _source(model, from_bundle)
    log_passes(verbose)
    options = BuildOptions(
        plugins=plugins or (),
        memory_pools=_memory_pools(mem_pool_size or []),
        builder_optimization_level=builder_optimization_level,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility(hardware_compatibility_level),
        compute_capabilities=compute_capability or (),
        timing_cache=timing_cache,
        use_timing_cache=not no_timing_cache,
        error_on_timing_cache_miss=error_on_timing_cache_miss,
    )
    asked: dict[str, Any] = {
        "engine": engine,
        "precision": precision,
        "keep_fp32": keep_fp32,
        "calibration": read_arrays(calibration_data) if calibration_data else None,
        "shapes": parse_shapes(shapes or []) or None,
        "min_shapes": shapes_by_profile(min_shapes or []) or None,
        "opt_shapes": shapes_by_profile(opt_shapes or []) or None,
        "max_shapes": shapes_by_profile(max_shapes or []) or None,
        "inputs": requested(inputs, shapes or [], input_names(source)) if inputs else None,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    make = run if from_bundle is None else rebuild
    with progress(quiet or as_json) as steps:
        result = make(source, output, lowering=lowering, options=options, progress=steps, **given)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _source(model: Path | None, from_bundle: Path | None) -> Path:
    """The one of both that is given."""
    if (model is None) == (from_bundle is None):
        raise UsageError(
            "Give a model, or --from-bundle, and not both.",
            remedy="As in: pagdeploy build model.onnx -o model.pagbundle",
        )
    source = model or from_bundle
    assert source is not None
    return source


def _memory_pools(arguments: list[str]) -> dict[str, int]:
    """Bytes by pool, from `workspace:4096` (MiB, as trtexec counts) or `workspace:4G`."""
    import re

    pools = {}
    for argument in (part for text in arguments for part in text.split(",")):
        match = re.fullmatch(r"([A-Za-z_]+):(\d{1,9}(?:\.\d+)?)([KMG]?)B?", argument.strip())
        if match is None:
            raise UsageError(
                f"The memory pool {argument!r} cannot be read.",
                remedy="Write NAME:MIB, as in workspace:4096, or workspace:4G.",
            )
        unit = {"K": 2**10, "M": 2**20, "G": 2**30, "": 2**20}[match[3]]
        pools[match[1].lower()] = int(float(match[2]) * unit)
    return pools


def _show(result: BuildResult) -> None:
    for warning in result.warnings:
        typer.echo(f"note: {warning}", err=True)
    info = result.manifest.engine
    measured = ", ".join(f"{name} {ms:.1f} ms" for name, ms in info.measured_ms.items())
    typer.echo(
        f"{result.path}: {info.flavour} {info.version}, {info.precision}, {info.lowering} lowering"
        f" ({measured or 'not measured'})"
    )
