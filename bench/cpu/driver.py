"""What both CPU benchmarks do: one process for each number of threads, rows, tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cpu.sessions import use_threads
from cpu.timing import be_favoured
from pagdeploy.engines.ort_native import op_library

THREADS = (1, 2)
HEADER = (
    f"{'shape':18} {'texture':7} density threads engine  over plain   bound  efficiency  "
    f"over masked   plain ms  masked ms  engine ms"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured case.

    Attributes:
        kind: What was gated.
        shape: Its name.
        texture: How active pixels are spread.
        density: Share of active pixels.
        threads: Of every session.
        engine: "pure" or "native".
        ratio: Plain dense time over the engine's.
        bound: Dense products over needed ones.
        efficiency: ratio / bound.
        over_masked: Time of the masked dense export, which computes the same, over the engine's.
        dense_ms: Of the plain dense network, which computes another function below density 1.
        masked_ms: Of the masked dense export.
        engine_ms: Of the engine.
        others: What else was measured, by name; bench/README.md lists it.
    """

    kind: str
    shape: str
    texture: str
    density: float
    threads: int
    engine: str
    ratio: float
    bound: float
    efficiency: float
    over_masked: float
    dense_ms: float
    masked_ms: float
    engine_ms: float
    others: dict[str, float] = dataclasses.field(default_factory=dict)

    def line(self) -> str:
        """As `HEADER` says."""
        return (
            f"{self.shape:18} {self.texture:7} {self.density:7.2f} {self.threads:7} "
            f"{self.engine:6} {self.ratio:11.2f} {self.bound:7.2f} {self.efficiency:11.2f} "
            f"{self.over_masked:12.2f} {self.dense_ms:10.2f} {self.masked_ms:10.2f} "
            f"{self.engine_ms:10.2f}"
        )


def rows_of(
    times: dict[str, float], engines: Iterable[str], others: dict[str, float], **case: Any
) -> Iterator[Row]:
    """A row for each engine.

    Args:
        times: Milliseconds of "dense", "masked" and each engine.
        engines: Names.
        others: See `Row`.
        case: kind, shape, texture, density, threads, bound.
    """
    for name in engines:
        ratio = times["dense"] / times[name]
        yield Row(
            **case, engine=name, ratio=ratio, efficiency=ratio / case["bound"],
            over_masked=times["masked"] / times[name], dense_ms=times["dense"],
            masked_ms=times["masked"], engine_ms=times[name], others=others,
        )  # fmt: skip


def parser_of(description: str) -> argparse.ArgumentParser:
    """A parser of the options that both have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer cases; under ten minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, too")
    parser.add_argument(
        "--threads", type=positive, nargs="+", default=THREADS, metavar="N",
        help="numbers of threads (default: 1 2)",
    )  # fmt: skip
    parser.add_argument("--shapes", nargs="+", metavar="NAME", help="only these")
    return parser


def run(
    arguments: argparse.Namespace,
    command: Sequence[str],
    measure: Callable[[argparse.Namespace], Iterator[Row]],
) -> int:
    """Measure for each number of threads, print a table, write the file.

    Args:
        arguments: Parsed.
        command: What they were parsed from.
        measure: Makes the rows, of one number of threads; asked in a process of its own, since
            the thread pool that sessions share is made once.

    Returns:
        0, or what the first process that failed ended with.
    """
    if len(arguments.threads) > 1:
        return _in_processes(arguments, command)
    if op_library() is None:
        print("No libpagdeploy_ort.so is installed: the pure engine alone is measured.")
    be_favoured()
    use_threads(arguments.threads[0])
    print(HEADER, flush=True)
    rows = []
    for row in measure(arguments):
        print(row.line(), flush=True)
        rows.append(dataclasses.asdict(row))
    _write(arguments.json, rows)
    return 0


def _in_processes(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in arguments.threads:
            part = Path(folder) / f"{threads}.json"
            # Of an option that is given twice, the last one counts.
            once = [*command, "--threads", str(threads), "--json", str(part)]
            status = subprocess.run([sys.executable, sys.argv[0], *once], check=False).returncode
            if status:
                return status
            rows += json.loads(part.read_text(encoding="utf-8"))
    _write(arguments.json, rows)
    return 0


def _write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def positive(text: str) -> int:
    """A number of things, of which there is at least one."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def require_known(
    parser: argparse.ArgumentParser, asked: Iterable[str] | None, known: Iterable[str]
) -> None:
    """End with a message if a shape is asked for that there is not."""
    names = list(known)
    if unknown := [name for name in asked or () if name not in names]:
        parser.error(f"there is no shape {', '.join(unknown)}; choose from {', '.join(names)}")
