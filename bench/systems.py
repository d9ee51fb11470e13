"""The gated networks of the literature, from their authors' PyTorch to a verified engine.

    python bench/systems.py [--full] [--engine native pure] [--density D | --half] [--size HxW]
                            [--only NAME ...] [--models DIR] [--until export|build|times]
                            [--json FILE] [--markdown]

Each is exported as plain ONNX (torch.onnx, none of our modules), recognised, built and verified,
once an engine. A row tells gates found and expected, convolutions perforated and perforable,
whether the engines say what PyTorch says, multiply-adds (of the plain dense network, which has
every gate on and no masks; and those needed), their ratio as a ceiling, and the time of the plain
dense network over that of each engine. The weights are ones that nobody trained, settled to the
published density. By default the networks are small: then times only point a way. `--full` takes
the published sizes, each in a process of its own.

What was exported and built stays in `--models`, and is taken from there: `--until build` prepares
on a busy machine what the same command without it then only has to time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from literature.row import LOWERINGS, Row, line
from literature.steps import EXPORT, STEPS, TIMES, Options, take

from pagdeploy.engines import engine_named
from pagdeploy.exporters.models.catalogue import SYSTEMS, System, names


def main() -> int:
    """Measure; returns how many rows are not verified or, at full size, slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="the published sizes")
    parser.add_argument(
        "--engine", choices=LOWERINGS, nargs="+", help="by default those that can be built here"
    )
    parser.add_argument("--density", type=float, help="instead of the published one")
    parser.add_argument("--half", action="store_true", help="time with every other gate forced off")
    parser.add_argument("--size", type=_size, metavar="HxW", help="of the images, in pixels")
    parser.add_argument("--only", nargs="+", choices=names(), metavar="NAME", help="of systems")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where what was built is kept")
    parser.add_argument("--until", choices=STEPS, default=TIMES, help="the last step")
    parser.add_argument("--json", type=Path, help="where the rows are written, too")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    options = Options(
        arguments.full, _engines(arguments.engine), arguments.density, arguments.size,
        arguments.until, arguments.half,
    )  # fmt: skip
    chosen = [s for s in SYSTEMS if not arguments.only or s.name in arguments.only]
    rows = []
    for system in chosen:
        with tempfile.TemporaryDirectory() as temporary:
            models = arguments.models or Path(temporary)
            apart = options.full and len(chosen) > 1
            row = (_take_apart if apart else _take)(system, models, options)
        rows.append(row)
        timed = options.full or not arguments.markdown  # no table of a few noisy milliseconds
        if options.until != EXPORT:
            print(line(row, markdown=arguments.markdown, timed=timed), flush=True)
    if arguments.json is not None:
        text = json.dumps([row.to_json() for row in rows], indent=1)
        arguments.json.write_text(text + "\n")
    if options.until == EXPORT:
        return 0
    return sum(not row.verified or (options.full and row.is_slow) for row in rows)


def _engines(asked: Sequence[str] | None) -> tuple[str, ...]:
    can = engine_named("onnxruntime").lowerings
    return tuple(asked or [name for name, lowering in LOWERINGS.items() if lowering in can])


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 480x640")
    return int(found[1]), int(found[2])


def _take(system: System, models: Path, options: Options) -> Row:
    """In a folder of the network and of what decides how it is exported."""
    parts = [system.name, "full" if options.full else "small"]
    if options.size is not None:
        parts.append("x".join(map(str, options.size)))
    if options.density is not None:
        parts.append(str(options.density))
    folder = models / "-".join(parts).replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    return take(system, folder, options)


def _take_apart(system: System, models: Path, options: Options) -> Row:
    """In a process that ends: the next network finds all of the memory free."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--full", "--only", system.name]
        command += ["--models", str(models), "--until", options.until, "--json", str(result)]
        command += ["--engine", *options.engines]
        if options.density is not None:
            command += ["--density", str(options.density)]
        if options.half:
            command.append("--half")
        if options.size is not None:
            command += ["--size", "x".join(map(str, options.size))]
        child = subprocess.run(
            command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if result.exists():
            (row,) = json.loads(result.read_text())
            return Row.from_json(row)
    last = (child.stderr.strip().splitlines() or ["it was killed"])[-1]
    return Row(system.name, reason=f"exit code {child.returncode}: {last}")


if __name__ == "__main__":
    sys.exit(main())
