"""The gated networks of the literature, from their authors' PyTorch to a verified engine.

    python bench/systems.py [--json FILE] [--markdown] [--only NAME ...]

Each is exported as plain ONNX (torch.onnx, none of our modules), recognised, built and verified. A
row tells gates found and expected, convolutions perforated and perforable, whether the engine says
what PyTorch says, multiply-adds dense and needed, and masked dense time over the engine's beside
its ceiling. The networks are small ones with weights that nobody trained, settled to their
published density: counts and proofs mean what they say, times only which way they point.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from pagdeploy.bundle import open_bundle
from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.errors import PagdeployError
from pagdeploy.exporters.models.catalogue import SYSTEMS, System
from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.read import read_model
from pagdeploy.measure.timing import time_in_turn
from pagdeploy.verbs.build import build
from pagdeploy.verbs.profile.candidates import (
    ENGINE,
    MASKED,
    load_candidates,
    perforated_convolutions,
)
from pagdeploy.verbs.run import load
from pagdeploy.verbs.verify import verify

OPSET = 18


@dataclasses.dataclass(frozen=True)
class Row:
    """One network; see the module."""

    system: str
    gates_found: int
    gates_expected: int
    perforated: int
    perforable: int
    verified: bool
    error: float
    macs_dense: float
    macs_needed: float
    ratio: float
    ceiling: float
    reason: str = ""


def main() -> int:
    """Measure; returns how many rows are not verified."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="where the rows are written, too")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    parser.add_argument("--only", nargs="*", help="names of systems")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    for system in SYSTEMS:
        if arguments.only and system.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(system, Path(folder))
        rows.append(row)
        print(_line(row, arguments.markdown), flush=True)
    if arguments.json is not None:
        text = json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
        arguments.json.write_text(text + "\n")
    return sum(not row.verified for row in rows)


def measure(system: System, folder: Path) -> Row:
    """Take one network down the whole road."""
    torch.manual_seed(0)
    network, inputs = system.factory(), system.inputs(1, system.size)
    path, bundle = folder / "m.onnx", folder / "m.pagbundle"
    with torch.no_grad():
        answers = network(*inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, inputs, path, opset_version=OPSET, dynamo=True,
                              external_data=False, verbose=False)  # fmt: skip
    model = read_model(path)
    names = [value.name for value in model.graph.input]
    feeds = {name: array.numpy() for name, array in zip(names, inputs, strict=True)}
    try:
        build(path, bundle, engine="onnxruntime", inputs=feeds)
        verdict = verify(bundle)
    except PagdeployError as problem:
        return Row(system.name, 0, system.gates, 0, system.perforable, False, 0, 0, 0, 0, 0,
                   reason=problem.message)  # fmt: skip
    found = load(bundle).run(feeds)
    wanted = answers if isinstance(answers, tuple) else (answers,)
    errors = [
        compare(name, ours, theirs.numpy(), NETWORK_BOUNDS["fp32"]).error
        for (name, ours), theirs in zip(found.items(), wanted, strict=False)
    ]
    candidates = load_candidates(open_bundle(bundle), threads=0, host_code=False)
    runs = {name: lambda s=s: s.run(feeds) for name, s in candidates.sessions.items()}
    times = time_in_turn({name: runs[name] for name in (ENGINE, MASKED)})
    shares = candidates.shares(feeds, candidates.decisions(feeds))
    cost = count_cost(candidates.perforated, {n: a.shape for n, a in feeds.items()}, shares)
    return Row(
        system=system.name,
        gates_found=len(verdict.gates),
        gates_expected=system.gates,
        perforated=len(perforated_convolutions(candidates.perforated)),
        perforable=system.perforable,
        verified=verdict.passed and max(errors) <= NETWORK_BOUNDS["fp32"],
        error=max(errors),
        macs_dense=cost.dense,
        macs_needed=cost.sparse,
        ratio=times[MASKED].median_ms / times[ENGINE].median_ms,
        ceiling=cost.ceiling,
        reason=verdict.reason or "",
    )


def _line(row: Row, markdown: bool) -> str:
    cells = [
        row.system, f"{row.gates_found} / {row.gates_expected}",
        f"{row.perforated} / {row.perforable}", "yes" if row.verified else f"NO {row.reason}",
        f"{row.error:.1e}", f"{row.macs_dense / 1e6:.1f}", f"{row.macs_needed / 1e6:.1f}",
        f"{row.ratio:.2f}", f"{row.ceiling:.2f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |" if markdown else "  ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
