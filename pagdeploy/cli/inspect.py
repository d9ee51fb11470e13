"""pagdeploy inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagdeploy.cli.console import Html, Json, invocation, print_json, reported, table, wrote
from pagdeploy.report.html import printable

if TYPE_CHECKING:
    from pagdeploy.manifest import Manifest, PlanInfo
    from pagdeploy.verbs.inspect import GateSummary, LibrarySummary, ModelSummary, PlanSummary
    from pagdeploy.verbs.inspect.gates import GateRow


@reported
def inspect(
    file: Annotated[
        Path, typer.Argument(help="ONNX file, bundle, TensorRT plan (.engine) or plugin library.")
    ],
    gates: Annotated[
        bool,
        typer.Option("--gates", help="Explain every gate of a model: what it decides and spares."),
    ] = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show what a file or bundle is; nothing of it is run. Needs no TensorRT and no GPU."""
    from pagdeploy.verbs.inspect import BundleSummary, LibrarySummary, PlanSummary, inspect_gates
    from pagdeploy.verbs.inspect import inspect as look
    from pagdeploy.verbs.inspect.page import write_report

    if html is not None:
        write_report(html, file, invocation())
    if gates:
        explained = inspect_gates(file)
        if as_json:
            print_json(explained)
        else:
            _show_gates(explained)
            wrote(html)
        return
    summary = look(file)
    if as_json:
        print_json(summary)
        return
    if isinstance(summary, BundleSummary):
        _show_bundle(summary.manifest)
        if summary.plan is not None:
            _show_plan(summary.plan, summary.manifest.engine.plan)
    elif isinstance(summary, PlanSummary):
        _show_plan(summary)
    elif isinstance(summary, LibrarySummary):
        _show_library(summary)
    else:
        _show_model(summary)
    wrote(html)


def _show_bundle(manifest: Manifest) -> None:
    info, host = manifest.engine, manifest.host
    typer.echo(f"bundle by pagdeploy {manifest.pagdeploy_version}, every file as it was built")
    measured = ", ".join(f"{name} {ms:.1f} ms" for name, ms in info.measured_ms.items())
    typer.echo(f"engine: {info.flavour} {info.version}, {info.precision}, {info.lowering}")
    typer.echo(f"measured on its sample: {measured or 'nothing'}")
    typer.echo(f"built on: {host.system}, {host.machine}, Python {host.python}")
    if host.gpu is not None:
        typer.echo(f"          {host.gpu}, driver {host.driver}, CUDA {host.cuda}")
    rows = [
        [kind, t.name, t.dtype, "x".join(map(str, t.shape)), "x".join(map(str, t.sample_shape))]
        for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs))
        for t in tensors
    ]
    table("Interface", ["", "name", "dtype", "shape", "sample"], rows)
    table(
        "Gates, densities on the sample",
        ["gate", "share of each branch"],
        [[g.name, " ".join(f"{d:.3f}" for d in g.density)] for g in manifest.gates],
    )
    table(
        "Perforated convolutions",
        ["node", "lowering", "density", "of its region, ms", "dense from"],
        [
            [
                o.name,
                o.lowering,
                "" if o.density is None else f"{o.density:.3f}, at most {o.largest_density:.3f}",
                " ".join(f"{form} {ms:.3g}" for form, ms in o.costs_ms.items()),
                "" if o.threshold is None else f"{o.threshold:.2f}",
            ]
            for o in manifest.ops
        ],
    )


def _show_plan(summary: PlanSummary, info: PlanInfo | None = None) -> None:
    header = summary.header
    typer.echo(f"plan built with {header}, {header.size:,} bytes")
    if header.compute_capabilities:
        typer.echo(f"its header names the GPUs {', '.join(header.compute_capabilities)}")
    if info is not None:
        _show_plan_info(info)
    typer.echo(f"loads here: {'yes' if summary.why_not_here is None else 'no'}")
    if summary.why_not_here is not None:
        typer.echo(f"  {summary.why_not_here}")


def _show_plan_info(info: PlanInfo) -> None:
    capabilities = ", ".join(info.compute_capabilities) or "not recorded"
    embedded = " and inside the plan" if info.embeds_plugins else ""
    typer.echo(f"built for the GPUs {capabilities}")
    typer.echo(f"version-compatible: {'yes' if info.version_compatible else 'no'}")
    typer.echo(f"hardware compatibility: {info.hardware_compatibility}")
    typer.echo(f"plugin libraries: {', '.join(info.plugins) or 'none'}{embedded}")
    typer.echo(f"timing cache: {info.timing_cache or 'none'}")
    rows = [
        [number, name, *("x".join(map(str, sizes)) for sizes in (at.min, at.opt, at.max))]
        for number, profile in enumerate(info.profiles)
        for name, at in profile.items()
    ]
    if rows:
        table("Optimization profiles", ["profile", "input", "min", "opt", "max"], rows)


def _show_library(summary: LibrarySummary) -> None:
    library = summary.library
    kind = ""
    if library.registers_another:
        kind = f": has TensorRT {library.tensorrt_major} register the library beside it"
    elif library.tensorrt_major is not None:
        kind = f": pagdeploy's plugins for TensorRT {library.tensorrt_major}"
    typer.echo(f"shared library for {library.machine}{kind}")
    rows = [
        ["entry points", ", ".join(library.entry_points) or "none of TensorRT's"],
        ["registers itself", "yes" if library.registers_statically else "no"],
        ["machine code (SASS)", ", ".join(library.gpu_code.sass) or "none"],
        ["PTX", ", ".join(library.gpu_code.ptx) or "none"],
        ["needs", ", ".join(library.needed) or "nothing"],
        ["oldest glibc", library.glibc or "any"],
    ]
    table("Library", ["", ""], rows)
    typer.echo(f"loads here: {'no' if summary.why_not_here else 'yes'}")
    for reason in summary.why_not_here:
        typer.echo(f"  {reason}")


def _show_model(summary: ModelSummary) -> None:
    typer.echo(
        f"{summary.form} ONNX model by {summary.producer or 'unknown'}: opset {summary.opset},"
        f" IR {summary.ir_version}, {summary.parameters:,} weights"
    )
    for kind, values in (("input", summary.inputs), ("output", summary.outputs)):
        for value in values:
            typer.echo(f"{kind:>7}  {value}")
    table("Nodes", ["op", "count"], list(summary.ops.items()))
    if summary.perforated:
        table(
            f"Perforated convolutions behind {len(summary.gates)} gates",
            [
                "node",
                "kernel",
                "strides",
                "dilations",
                "group",
                "channels",
                "branch",
                "mode",
                "activation",
                "gate",
            ],
            [list(vars(row).values()) for row in summary.perforated],
        )


def _show_gates(summary: GateSummary) -> None:
    count = len(summary.gates)
    written = f", {summary.recognised} of them in plain ONNX" if summary.recognised else ""
    typer.echo(f"{count} gate{'' if count == 1 else 's'}{written}")
    for note in summary.notes:
        typer.echo(f"note: {printable(note)}")
    for gate in summary.gates:
        _show_gate(gate)
    if summary.left:
        table(
            "Masks and decisions that are left as they are",
            ["node", "op", "because"],
            [[row.name, row.op, row.why] for row in summary.left],
        )


def _show_gate(gate: GateRow) -> None:
    computes = " and ".join(map(str, gate.computes)) or "none"
    lines = [
        f"{gate.name}: {gate.branches} branches, one decision for each {gate.granularity}",
        f"  decided by {gate.rule}; a tie: {gate.tie}",
        f"  branches that compute: {computes}",
    ]
    if gate.budget is not None:
        lines.append(f"  moved by the input {gate.budget!r}")
    if gate.density:
        shares = " ".join(f"{share:.3f}" for share in gate.density)
        lines.append(f"  share of each branch on the sample: {shares}")
    typer.echo()
    for line in lines:
        typer.echo(printable(line))
    rows = [
        [
            row.name,
            " ".join(map(str, row.branches)) or "of several gates",
            "masked there" if row.how == "masked" else "read only there",
            "dilated, resized or joined" if row.derived else "as it is",
        ]
        for row in gate.perforates
    ]
    if rows:
        table("  computed only where it says so", ["node", "branch", "because", "mask"], rows)
    if gate.dense:
        dense = [[row.name, row.op, row.why] for row in gate.dense]
        table("  behind it, and computed everywhere", ["node", "op", "because"], dense)
