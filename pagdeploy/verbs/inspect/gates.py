"""What each gate of a model decides, what it spares, and what it does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.bundle import MANIFEST, MODEL, open_bundle
from pagdeploy.engines.nvidia.elf import is_elf
from pagdeploy.engines.nvidia.plan import is_plan
from pagdeploy.errors import UsageError
from pagdeploy.graph.describe import hardened_gates
from pagdeploy.verbs.inspect.rules import granularity, rule, tie, without_budget

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.rulings import Ruling

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LOGGER = "pagdeploy.passes"


@dataclass(frozen=True)
class SparedRow:
    """A convolution that is computed only where a gate says so.

    Attributes:
        name: Of the node.
        branches: For which it computes; empty if that follows from several gates together.
        how: "masked" by the model itself, or "unread" elsewhere.
        derived: Whether a mask made of the gate's lies in between: dilated, resized or joined.
    """

    name: str
    branches: list[int]
    how: str
    derived: bool


@dataclass(frozen=True)
class DenseRow:
    """A node that is computed everywhere.

    Attributes:
        name: Of the node.
        op: Its operator.
        why: It cannot be spared, or was not recognised, as a clause.
    """

    name: str
    op: str
    why: str


@dataclass(frozen=True)
class GateRow:
    """One gate.

    Attributes:
        name: Of the node.
        branches: How many there are, K.
        computes: Those for which convolutions are computed.
        rule: What decides, such as "'g' >= 0".
        tie: What two equal scores decide.
        granularity: What one decision is for: "pixel", "patch" or "image".
        budget: Name of the input that moves it; None if none does.
        density: Share of each branch on the sample of a bundle; empty for a model.
        perforates: What it spares.
        dense: Convolutions that what it masks is made of, and that stay.
    """

    name: str
    branches: int
    computes: list[int]
    rule: str
    tie: str
    granularity: str
    budget: str | None
    density: list[float]
    perforates: list[SparedRow]
    dense: list[DenseRow]


@dataclass(frozen=True)
class GateSummary:
    """The gates of a model.

    Attributes:
        gates: In the order of the graph.
        recognised: How many of them the file has as plain ONNX.
        left: Decisions and masks that are none, or are not understood, and why.
        notes: What recognising them changed, such as noise that was taken out.
    """

    gates: list[GateRow]
    recognised: int
    left: list[DenseRow]
    notes: list[str] = field(default_factory=list)


def inspect_gates(path: Path) -> GateSummary:
    """Explain the gates of an ONNX file or of a bundle; nothing of it is run.

    Raises:
        UsageError: there is nothing at the path, or it is of a kind that does not show its gates.
        IncompatibleArtifact: it is damaged.
    """
    from pagdeploy.graph.read import read_model

    if path.is_dir() or path.name == MANIFEST:
        bundle = open_bundle(path if path.is_dir() else path.parent)
        densities = {gate.name: list(gate.density) for gate in bundle.manifest.gates}
        return _summary(read_model(bundle.file(MODEL)), densities)
    if path.is_file() and (is_elf(path) or is_plan(path)):
        raise UsageError(
            f"{path} does not show its gates.",
            remedy="Give the ONNX file that it was built from, or its bundle.",
        )
    return _summary(read_model(path), {})


def _summary(model: onnx.ModelProto, densities: dict[str, list[float]]) -> GateSummary:
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.gates import gates_of
    from pagdeploy.graph.rulings import rulings_of
    from pagdeploy.ops.derive import register_schemas
    from pagdeploy.passes import drop_unused, infer_support
    from pagdeploy.pipeline import RECOGNITION, recognise, run_passes

    with _told() as found:
        portable = recognise(model)
    with _told() as explored:
        register_schemas()
        module = ir.from_proto(onnx.shape_inference.infer_shapes(portable, data_prop=True))
        run_passes(module, (*RECOGNITION, infer_support, drop_unused))
    # The masks that were made for supports have sizes only now.
    module = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(module), data_prop=True))
    kept = {row.name: row for row in explored.stays}
    rulings = rulings_of(module)
    names = {gate.name for gate in gates_of(portable)}
    rows = [
        _row(module, gate, rulings[gate], kept, densities) for gate in rulings if gate.name in names
    ]
    return GateSummary(
        gates=rows,
        recognised=len(rows) - len(gates_of(model)),
        left=list(dict.fromkeys(row for row in found.stays if row.op not in _CONVOLUTIONS)),
        notes=_hardened(portable) + found.warnings,
    )


def _hardened(model: onnx.ModelProto) -> list[str]:
    """Of each gate that is one on request, a sentence."""
    return [
        f"{name!r} was a soft mixture, and decides because it was asked to: 'pagdeploy harden'"
        for name in hardened_gates(model)
    ]


@dataclass
class _Told:
    """What passes said."""

    stays: list[DenseRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def _told() -> Iterator[_Told]:
    """Listen to the passes: what they say with -v, one row for each node that they leave."""
    told = _Told()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                told.warnings.append(record.getMessage())
            elif record.msg.endswith("stays: %s") and isinstance(record.args, tuple):
                told.stays.append(DenseRow(*(str(part) for part in record.args)))

    logger, listener = logging.getLogger(_LOGGER), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield told
    finally:
        logger.setLevel(level)
        logger.removeHandler(listener)


def _row(
    module: ir.Model,
    gate: ir.Node,
    rulings: Sequence[Ruling],
    kept: dict[str, DenseRow],
    densities: dict[str, list[float]],
) -> GateRow:
    from pagdeploy.graph.perforate import UNREAD
    from pagdeploy.graph.shape_book import ShapeBook

    logits = gate.inputs[0]
    sizes = ShapeBook(module).of(logits)
    count = 0 if sizes is None else sizes[1].expression
    computes = sorted(frozenset[int]().union(*(ruling.branches or () for ruling in rulings)))
    scores, budget = without_budget(logits)
    return GateRow(
        name=str(gate.name),
        branches=count if isinstance(count, int) else 0,
        computes=computes,
        rule=rule(scores, computes),
        tie=tie(computes, count),
        granularity=granularity(gate, sizes),
        budget=budget,
        density=densities.get(str(gate.name), []),
        perforates=[
            SparedRow(
                name=str(ruling.node.name),
                branches=sorted(ruling.branches or ()),
                how="unread" if UNREAD in ruling.node.metadata_props else "masked",
                derived=ruling.derived,
            )
            for ruling in rulings
        ],
        dense=_dense_behind(module, gate, rulings, kept),
    )


def _dense_behind(
    module: ir.Model, gate: ir.Node, rulings: Sequence[Ruling], kept: dict[str, DenseRow]
) -> list[DenseRow]:
    """The nearest convolutions that what a gate masks is made of, and that stay."""
    from pagdeploy.graph.masks import Masks
    from pagdeploy.graph.shape_book import ShapeBook

    masks = Masks(module, ShapeBook(module))
    pending = [ruling.node.inputs[0] for ruling in rulings]
    for node in module.graph:
        if node.domain or node.op_type not in ("Mul", "Where"):
            continue
        tables = [masks.pixel_mask(value) for value in node.inputs]
        if any(
            source.value is gate.outputs[0]
            for table in tables
            if table is not None
            for source in masks.behind(table.decisions[0])
        ):
            pending += [v for v in node.inputs if v is not None and masks.table(v) is None]
    spared = {ruling.node for ruling in rulings}
    rows: dict[str, DenseRow] = {}
    seen: set[object] = set()
    while pending:
        value = pending.pop(0)
        maker = None if value is None else value.producer()
        if maker is None or maker in seen:
            continue
        seen.add(maker)
        if maker.op_type in _CONVOLUTIONS and not maker.domain:
            name = str(maker.name)
            never = DenseRow(name, maker.op_type, "a transposed convolution is never perforated")
            rows[name] = kept.get(name, never)
        elif not maker.domain or maker in spared:
            pending += maker.inputs[:1] if maker.domain else maker.inputs
    return list(rows.values())
