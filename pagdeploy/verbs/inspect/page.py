"""The report of a file or bundle: what it holds, what its gates rule, what was chosen and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagdeploy.bundle import MANIFEST, refuse_inside_bundle
from pagdeploy.files import replacing_file
from pagdeploy.report.html import Html, details, element, facts, join, note, paragraph, table
from pagdeploy.report.page import Page, Section, write_page
from pagdeploy.verbs.inspect import BundleSummary, GateSummary, LibrarySummary, PlanSummary, inspect
from pagdeploy.verbs.inspect.gates import GateRow, inspect_gates

if TYPE_CHECKING:
    from pagdeploy.manifest import EngineInfo, Manifest, OpInfo
    from pagdeploy.verbs.inspect import ModelSummary, Summary

_LOWERED = {
    "dense": "computed at every pixel, then masked",
    "gather": "active pixels are gathered, computed, and scattered over the base",
    "gather-add": "each pixel gathers its result, or zero, and adds it to the base",
    "native": "our onnxruntime op computes the active pixels",
    "plugin": "our TensorRT plugin computes the active pixels",
}


def write_report(path: Path, subject: Path, command: str | None = None) -> None:
    """Look at a file or bundle as `inspect` does, and write its report.

    Args:
        path: HTML file.
        subject: ONNX file, bundle, TensorRT plan or plugin library.
        command: For the report: what it comes from.

    Raises:
        UsageError, IncompatibleArtifact: as `inspect`; or the report cannot be written.
    """
    from pagdeploy.verbs.versions import digests, versions

    refuse_inside_bundle(path)
    subject = subject.parent if subject.name == MANIFEST else subject
    with replacing_file(path) as temporary:
        summary = inspect(subject)
        gates = None
        if not isinstance(summary, (PlanSummary, LibrarySummary)):
            gates = inspect_gates(subject)
        origin = [
            element("pre", command or f"pagdeploy inspect {subject}"),
            facts({**digests(subject), **versions()}),
        ]
        write_page(temporary, inspect_page(subject.name, summary, gates, origin))


def inspect_page(
    name: str, summary: Summary, gates: GateSummary | None, origin: Sequence[Html]
) -> Page:
    """The report.

    Args:
        name: Of the file.
        summary: What it is.
        gates: Of a model or bundle.
        origin: How to get the same again.
    """
    if isinstance(summary, BundleSummary):
        lead, sections = _of_bundle(summary)
    elif isinstance(summary, PlanSummary):
        lead, sections = _of_plan(summary)
    elif isinstance(summary, LibrarySummary):
        lead, sections = _of_library(summary)
    else:
        lead, sections = _of_model(summary)
    if gates is not None:
        sections.insert(1, Section("Gates", list(_gates(gates))))
    return Page(
        title=f"Inspection of {name}",
        lead=lead,
        sections=[*sections, Section("How to reproduce", origin)],
    )


def _of_bundle(summary: BundleSummary) -> tuple[str, list[Section]]:
    manifest = summary.manifest
    info, host = manifest.engine, manifest.host
    lead = (
        f"A bundle for {info.flavour} {info.version}: {info.lowering} lowering, {info.precision},"
        f" {len(manifest.gates)} gates, {len(manifest.ops)} perforated convolutions; every file is"
        " as it was built."
    )
    built: dict[str, object] = {"system": f"{host.system}, {host.machine}", "Python": host.python}
    if host.gpu is not None:
        built["GPU"] = f"{host.gpu}, driver {host.driver}, CUDA {host.cuda}"
    tensors = [
        [kind, t.name, t.dtype, _sizes(t.shape), _sizes(t.sample_shape), *t.sample_range]
        for kind, group in (("input", manifest.inputs), ("output", manifest.outputs))
        for t in group
    ]
    columns = ["", "name", "dtype", "shape", "sample", "smallest", "largest"]
    sections = [
        Section("Inputs and outputs", [table(columns, tensors)]),
        Section("What was chosen, and why", list(_choices(manifest))),
        Section("Built on", [facts(built)]),
        Section("Files", [table(["file", "SHA-256"], [*map(list, manifest.files.items())])]),
    ]
    if summary.plan is not None:
        sections.insert(2, Section("Plan", _plan(summary.plan, info)))
    return lead, sections


def _choices(manifest: Manifest) -> Iterator[Html]:
    info = manifest.engine
    if len(info.measured_ms) > 1:
        times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in info.measured_ms.items())
        yield paragraph(f"Lowerings of the whole model, timed in turn on the sample: {times}.")
    rows = [
        [
            op.name,
            op.lowering,
            "" if op.density is None else op.density,
            "" if op.largest_density is None else op.largest_density,
            "" if op.threshold is None else op.threshold,
            why(op, info),
        ]
        for op in manifest.ops
    ]
    if rows:
        yield table(
            ["node", "lowering", "density", "largest", "dense from", "because"],
            rows,
            caption="Perforated convolutions; densities are of the calibration data",
        )
    used = {op.lowering for op in manifest.ops}
    yield facts({name: text for name, text in _LOWERED.items() if name in used})


def why(op: OpInfo, info: EngineInfo) -> str:
    """Why a convolution was lowered as it was, as a clause."""
    costs = sorted(op.costs_ms.items(), key=lambda entry: entry[1])
    if costs:
        return "its region took " + ", ".join(f"{ms:.3g} ms as {name}" for name, ms in costs)
    others = {name: ms for name, ms in info.measured_ms.items() if name != info.lowering}
    if others and info.lowering in info.measured_ms:
        return f"the whole model was fastest in the lowering {info.lowering}"
    return f"the lowering {info.lowering} was asked for, or is the only one of the engine"


def _plan(summary: PlanSummary, info: EngineInfo | None = None) -> list[Html]:
    header = summary.header
    told: dict[str, object] = {
        "built with": str(header),
        "bytes": f"{header.size:,}",
        "GPUs, by its header": ", ".join(header.compute_capabilities) or "not said",
        "loads here": summary.why_not_here or "yes",
    }
    plan = info.plan if info is not None else None
    if plan is None:
        return [facts(told)]
    told |= {
        "version-compatible": "yes" if plan.version_compatible else "no",
        "hardware compatibility": plan.hardware_compatibility,
        "plugin libraries": ", ".join(plan.plugins) or "none",
        "timing cache": plan.timing_cache or "none",
    }
    rows = [
        [number, name, *(_sizes(sizes) for sizes in (at.min, at.opt, at.max))]
        for number, profile in enumerate(plan.profiles)
        for name, at in profile.items()
    ]
    return [
        facts(told),
        table(["profile", "input", "min", "opt", "max"], rows) if rows else join([]),
    ]


def _of_plan(summary: PlanSummary) -> tuple[str, list[Section]]:
    state = "It loads here." if summary.why_not_here is None else "It does not load here."
    return f"A plan built with {summary.header}. {state}", [Section("Plan", _plan(summary))]


def _of_library(summary: LibrarySummary) -> tuple[str, list[Section]]:
    library = summary.library
    told = {
        "entry points": ", ".join(library.entry_points) or "none of TensorRT's",
        "registers itself": "yes" if library.registers_statically else "no",
        "machine code (SASS)": ", ".join(library.gpu_code.sass) or "none",
        "PTX": ", ".join(library.gpu_code.ptx) or "none",
        "needs": ", ".join(library.needed) or "nothing",
        "oldest glibc": library.glibc or "any",
    }
    state = "It does not load here." if summary.why_not_here else "It loads here."
    reasons = [note(reason) for reason in summary.why_not_here]
    lead = f"A shared library for {library.machine}. {state}"
    return lead, [Section("Library", [facts(told), *reasons])]


def _of_model(summary: ModelSummary) -> tuple[str, list[Section]]:
    lead = (
        f"A {summary.form} ONNX model by {summary.producer or 'unknown'}: opset {summary.opset}, IR"
        f" {summary.ir_version}, {summary.parameters:,} weights, {len(summary.gates)} gates."
    )
    tensors = [["input", each] for each in summary.inputs]
    tensors += [["output", each] for each in summary.outputs]
    rows: list[list[Any]] = [list(vars(row).values()) for row in summary.perforated]
    columns = list(vars(summary.perforated[0])) if rows else []
    return lead, [
        Section("Inputs and outputs", [table(["", "name and type"], tensors)]),
        Section("Perforated convolutions", [table(columns, rows)] if rows else []),
        Section("Nodes", [table(["op", "count"], [*map(list, summary.ops.items())])]),
    ]


def _gates(summary: GateSummary) -> Iterator[Html]:
    if summary.recognised:
        yield paragraph(f"{summary.recognised} of {len(summary.gates)} are in plain ONNX.")
    yield from (note(text) for text in summary.notes)
    if summary.gates:
        yield table(
            ["gate", "branches", "one decision for each", "decided by", "a tie", "computes for",
             "density", "rules", "stay dense"],
            [
                [
                    gate.name,
                    gate.branches,
                    gate.granularity,
                    gate.rule,
                    gate.tie,
                    " ".join(map(str, gate.computes)) or "none",
                    _density(gate),
                    len(gate.perforates),
                    len(gate.dense),
                ]
                for gate in summary.gates
            ],
        )  # fmt: skip
    for gate in summary.gates:
        yield _gate(gate)
    if summary.left:
        rows = [[row.name, row.op, row.why] for row in summary.left]
        yield table(["node", "op", "because"], rows, caption="Masks that are left as they are")


def _density(gate: GateRow) -> object:
    """Of two branches the share that computes; of more, each."""
    if len(gate.density) == 2 and len(gate.computes) == 1 and gate.computes[0] < 2:
        return gate.density[gate.computes[0]]
    return " ".join(f"{share:.2f}" for share in gate.density)


def _gate(gate: GateRow) -> Html:
    spared = [
        [
            row.name,
            " ".join(map(str, row.branches)) or "of several gates",
            "masked there" if row.how == "masked" else "read only there",
            "dilated, resized or joined" if row.derived else "as it is",
        ]
        for row in gate.perforates
    ]
    dense = [[row.name, row.op, row.why] for row in gate.dense]
    parts = [paragraph(f"Moved by the input {gate.budget!r}.")] if gate.budget is not None else []
    if spared:
        caption = "Computed only where it says so"
        parts.append(table(["node", "branch", "because", "mask"], spared, caption=caption))
    if dense:
        caption = "Behind it, and computed everywhere"
        parts.append(table(["node", "op", "because"], dense, caption=caption))
    return details(f"What {gate.name} rules", *parts) if parts else join([])


def _sizes(sizes: Sequence[int | str]) -> str:
    return " x ".join(map(str, sizes)) or "scalar"
