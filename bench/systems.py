"""The gated networks of the literature, from their authors' PyTorch to a verified engine.

    python bench/systems.py [--full] [--engine native pure] [--density D] [--only NAME ...]
                            [--json FILE] [--markdown]

Each is exported as plain ONNX (torch.onnx, none of our modules), recognised, built and verified,
once an engine. A row tells gates found and expected, convolutions perforated and perforable,
whether the engines say what PyTorch says, multiply-adds (of the plain dense network, which has
every gate on and no masks; and those needed), their ratio as a ceiling, and the time of the plain
dense network over that of each engine. The weights are ones that nobody trained, settled to the
published density. By default the networks are small: then times only point a way. `--full` takes
the published sizes, each in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pagdeploy.bundle import open_bundle
from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.engines import engine_named
from pagdeploy.errors import PagdeployError
from pagdeploy.exporters.models.catalogue import SYSTEMS, System
from pagdeploy.exporters.models.parts import settle
from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.read import read_model
from pagdeploy.measure.timing import time_in_turn
from pagdeploy.verbs.build import build
from pagdeploy.verbs.profile.candidates import (
    ENGINE,
    MASKED,
    PLAIN,
    Candidates,
    load_candidates,
    perforated_convolutions,
)
from pagdeploy.verbs.verify import verify

OPSET = 18
LOWERINGS = {"native": "native", "pure": "gather"}
# Images that gates are settled on: those of one decision an image, and those of many.
FEW_DECISIONS, MANY_DECISIONS = 8, 2
WORTH = 0.8  # of the dense multiply-adds: a network that needs no more has to be faster
Feeds = Mapping[str, "np.ndarray[Any, Any]"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One network; see the module.

    Attributes:
        system: Its name.
        verified: Whether every engine is.
        error: The largest one of an engine's outputs, of their scale.
        macs_dense: Multiply-adds of the plain dense network.
        macs_masked: Of the masked dense one.
        macs_needed: Of what the decisions on the timed image ask for.
        milliseconds: Medians: of each engine, of PLAIN and of MASKED.
        reason: Why it is not verified.
    """

    system: str
    gates_found: int = 0
    gates_expected: int = 0
    perforated: int = 0
    perforable: int = 0
    verified: bool = False
    error: float = 0.0
    macs_dense: float = 0.0
    macs_masked: float = 0.0
    macs_needed: float = 0.0
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    reason: str = ""

    def ratio(self, engine: str, baseline: str = PLAIN) -> float:
        """The time of the baseline over the engine's; 0 if there is none."""
        if engine not in self.milliseconds:
            return 0.0
        return self.milliseconds[baseline] / self.milliseconds[engine]

    @property
    def is_slow(self) -> bool:
        """Whether no engine saves time although the network saves much work."""
        saves = self.macs_needed <= WORTH * self.macs_dense
        return saves and max(self.ratio(engine) for engine in LOWERINGS) <= 1


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for: see the module."""

    full: bool
    engines: tuple[str, ...]
    density: float | None


def main() -> int:
    """Measure; returns how many rows are not verified or, at full size, slow."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="the published sizes")
    parser.add_argument(
        "--engine", choices=LOWERINGS, nargs="+", help="by default those that can be built here"
    )
    parser.add_argument("--density", type=float, help="instead of the published one")
    parser.add_argument("--json", type=Path, help="where the rows are written, too")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    parser.add_argument("--only", nargs="*", help="names of systems")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    options = Options(arguments.full, _engines(arguments.engine), arguments.density)
    chosen = [s for s in SYSTEMS if not arguments.only or s.name in arguments.only]
    rows = []
    for system in chosen:
        with tempfile.TemporaryDirectory() as folder:
            apart = options.full and len(chosen) > 1
            row = (_measure_apart if apart else measure)(system, Path(folder), options)
        rows.append(row)
        timed = options.full or not arguments.markdown  # no table of a few noisy milliseconds
        print(line(row, markdown=arguments.markdown, timed=timed), flush=True)
    if arguments.json is not None:
        text = json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
        arguments.json.write_text(text + "\n")
    return sum(not row.verified or (options.full and row.is_slow) for row in rows)


def _engines(asked: Sequence[str] | None) -> tuple[str, ...]:
    can = engine_named("onnxruntime").lowerings
    return tuple(asked or [name for name, lowering in LOWERINGS.items() if lowering in can])


def _measure_apart(system: System, folder: Path, options: Options) -> Row:
    """In a process that ends: the next network finds all of the memory free."""
    result = folder / "row.json"
    command = [sys.executable, __file__, "--full", "--only", system.name, "--json", str(result)]
    command += ["--engine", *options.engines]
    if options.density is not None:
        command += ["--density", str(options.density)]
    child = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not result.exists():
        last = (child.stderr.strip().splitlines() or ["it was killed"])[-1]
        return Row(system.name, reason=f"exit code {child.returncode}: {last}")
    (row,) = json.loads(result.read_text())
    return Row(**row)


@dataclasses.dataclass(frozen=True)
class Exported:
    """A network as its authors' users would export it.

    Attributes:
        path: Of the ONNX file.
        images: Inputs in their order, one image each.
        answers: Of PyTorch, to the first image.
    """

    path: Path
    images: list[tuple[Tensor, ...]]
    answers: tuple[Tensor, ...]


def measure(system: System, folder: Path, options: Options) -> Row:
    """Take one network down the whole road."""
    return measure_exported(system, _export(system, folder, options), folder, options)


def _export(system: System, folder: Path, options: Options) -> Exported:
    torch.manual_seed(0)
    network, images = _network(system, options)
    one_by_one = [_image(images, number) for number in range(len(images[0]))]
    path = folder / "m.onnx"
    with torch.no_grad():
        answers = network(*one_by_one[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, one_by_one[0], path, opset_version=OPSET, dynamo=True,
                              external_data=False, verbose=False)  # fmt: skip
    return Exported(path, one_by_one, answers if isinstance(answers, tuple) else (answers,))


def measure_exported(system: System, exported: Exported, folder: Path, options: Options) -> Row:
    """Build every engine, verify each, and time them all in turn with the two baselines."""
    names = [value.name for value in read_model(exported.path).graph.input]
    every = [_feeds(names, inputs) for inputs in exported.images]
    gates = system.full_gates if options.full else system.gates
    perforable = system.full_perforable if options.full else system.perforable
    row = Row(system.name, gates_expected=gates, perforable=perforable)
    bound, errors, found = NETWORK_BOUNDS["fp32"], [], {}
    try:
        for engine in options.engines:
            bundle = folder / f"{engine}.pagbundle"
            build(exported.path, bundle, engine="onnxruntime", lowering=LOWERINGS[engine],
                  inputs=every[0])  # fmt: skip
            verdict = verify(bundle)
            if not verdict.passed:
                return dataclasses.replace(row, reason=f"{engine}: {verdict.reason}")
            found[engine] = load_candidates(open_bundle(bundle), threads=0, host_code=False)
            outputs = found[engine].sessions[ENGINE].run(every[0])
            errors += [
                compare(name, ours, theirs.numpy(), bound).error
                for (name, ours), theirs in zip(outputs.items(), exported.answers, strict=False)
            ]
    except PagdeployError as problem:
        return dataclasses.replace(row, reason=problem.message)
    first = found[options.engines[0]]  # of which the baselines are taken
    feeds = every[0]
    if options.full and system.granularity == "image":
        feeds = _most_typical(first, every, _density(system, options))
    sessions = {PLAIN: first.sessions[PLAIN], MASKED: first.sessions[MASKED]}
    sessions |= {engine: each.sessions[ENGINE] for engine, each in found.items()}
    times = time_in_turn({name: lambda s=s: s.run(feeds) for name, s in sessions.items()})
    shapes = {name: array.shape for name, array in feeds.items()}
    cost = count_cost(first.perforated, shapes, _shares(first, feeds))
    return dataclasses.replace(
        row,
        gates_found=len(verdict.gates),
        perforated=len(perforated_convolutions(first.perforated)),
        verified=max(errors) <= bound,
        error=max(errors),
        macs_dense=count_cost(first.twin, shapes, {}).dense,
        macs_masked=cost.dense,
        macs_needed=cost.sparse,
        milliseconds={name: timing.median_ms for name, timing in times.items()},
        reason="" if max(errors) <= bound else "it does not say what PyTorch says",
    )


def _network(system: System, options: Options) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network, and inputs, the images in their first axis."""
    network = (system.full_size if options.full else system.factory)()
    if not options.full and options.density is None:
        return network, system.inputs(1, system.size)
    side = system.full_size_side if options.full else system.size
    few = system.granularity == "image"
    images = system.inputs(FEW_DECISIONS if few else MANY_DECISIONS, side)
    if (system.full_gates if options.full else system.gates) > 0:
        settle(network, images, _density(system, options), norms=False)
    return network, images


def _density(system: System, options: Options) -> float:
    return system.published_density if options.density is None else options.density


def _image(images: tuple[Tensor, ...], number: int) -> tuple[Tensor, ...]:
    return tuple(each[number : number + 1].contiguous() for each in images)


def _feeds(names: list[str], inputs: tuple[Tensor, ...]) -> Feeds:
    return {name: array.numpy() for name, array in zip(names, inputs, strict=True)}


def _shares(candidates: Candidates, feeds: Feeds) -> dict[str, list[float]]:
    return candidates.shares(feeds, candidates.decisions(feeds))


def _most_typical(candidates: Candidates, every: list[Feeds], density: float) -> Feeds:
    """The image whose decisions cost most nearly what the density does."""
    shapes = {name: array.shape for name, array in every[0].items()}

    def needed(shares: Mapping[str, list[float]]) -> float:
        return count_cost(candidates.perforated, shapes, shares).sparse

    found = [_shares(candidates, feeds) for feeds in every]
    wanted = needed({name: [density] * len(shares) for name, shares in found[0].items()})
    return min(zip(found, every, strict=True), key=lambda pair: abs(needed(pair[0]) - wanted))[1]


def line(row: Row, *, markdown: bool = False, timed: bool = True) -> str:
    """The row as text.

    Args:
        row: What was measured; the ratio of an engine that was not built is a dash.
        markdown: As a row of a table.
        timed: With ratios: to the plain dense network, then to the masked one, engine by engine.
    """
    ceiling = row.macs_dense / row.macs_needed if row.macs_needed else 1.0
    cells = [
        row.system, f"{row.gates_found} / {row.gates_expected}",
        f"{row.perforated} / {row.perforable}", "yes" if row.verified else f"NO {row.reason}",
        f"{row.error:.1e}", f"{row.macs_dense / 1e6:.1f}", f"{row.macs_needed / 1e6:.1f}",
        f"{ceiling:.2f}",
    ]  # fmt: skip
    if timed:
        ratios = [row.ratio(engine, base) for base in (PLAIN, MASKED) for engine in LOWERINGS]
        cells += [f"{ratio:.2f}" if ratio else "-" for ratio in ratios]
    return f"| {' | '.join(cells)} |" if markdown else "  ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
