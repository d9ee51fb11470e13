"""Full-size PAG-ResNets, compiled, against the plain and the masked dense network, in one process.

    python bench/cpu_networks.py [--quick] [--json FILE] [--threads N ...] [--models DIR]

PAG-ResNet-50 and -101 with one segmentation head, at 480x640 and 512x1024, weights random. Every
gate still decides; then a selection of `pag` texture and of the wanted density takes the place of
its decision, in each engine alike. MultiPool's pixels choose evenly between its seven branches.

Two baselines, always. Plain: the same network without gates, every pixel computed; it is another
function below density 1. Masked: what an exporter makes of the gated network, all branches of every
gate and of MultiPool computed and then chosen; every engine is compared with it before it is timed.
Bound is the products of the plain network over those that the gated one needs, gates and heads
included: the largest speed-up at equal arithmetic speed. Efficiency is the ratio over plain by it.

At one density, each model runs once more in a process of its own, which tells the most memory
that it ever held, weights included. Rows name it in `others`, in MiB and over the baselines.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from cpu.driver import Row, parser_of, require_known, rows_of, run
from cpu.networks import INPUT, NETWORKS, TINY, Candidates, Network
from cpu.peak_memory import peak_mib
from cpu.sessions import session_of
from cpu.timing import median_milliseconds

from pagdeploy.engines.ort_native import needs_library, op_library

DENSITIES = (1.0, 0.9, 0.7, 0.5, 0.3)
QUICK_DENSITIES = (0.7, 0.5, 0.3)
MEMORY_DENSITY = 0.7
TEXTURE = "pag"
ERROR_BOUND = 1e-4  # of the largest value of an output, behind a hundred convolutions
ROUNDS, QUICK_ROUNDS = 5, 3

Arrays = dict[str, npt.NDArray[Any]]


def main() -> int:
    """Measure; returns 0 if every result was right."""
    parser = parser_of((__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--densities", type=float, nargs="+", help="others than 1 to 0.3")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where exports are kept")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    arguments = parser.parse_args()
    require_known(parser, arguments.shapes, (each.name for each in (*NETWORKS, TINY)))
    if arguments.models is not None:
        arguments.models.mkdir(parents=True, exist_ok=True)
        return run(arguments, sys.argv[1:], _measure)
    with tempfile.TemporaryDirectory() as folder:
        arguments.models = Path(folder)
        return run(arguments, [*sys.argv[1:], "--models", folder], _measure)


def _measure(arguments: argparse.Namespace) -> Iterator[Row]:
    networks = NETWORKS[:1] if arguments.quick else NETWORKS
    if arguments.shapes:
        every = (*NETWORKS, TINY)
        networks = tuple(each for each in every if each.name in arguments.shapes)
    for network in networks:
        yield from _rows(network, arguments)


def _rows(network: Network, arguments: argparse.Namespace) -> Iterator[Row]:
    threads = arguments.threads[0]
    lowerings = {"pure": "gather", "native": "native"}
    if op_library() is None:
        del lowerings["native"]
    candidates = Candidates(network.export(arguments.models), lowerings)
    sessions = {name: session_of(model) for name, model in candidates.models.items()}
    image = {INPUT: network.image()}
    densities = arguments.densities or (QUICK_DENSITIES if arguments.quick else DENSITIES)
    for density in densities:
        selections = candidates.selections(TEXTURE, density)
        runs = {name: _Run(session, image | selections) for name, session in sessions.items()}
        _check(f"{network.name} at {density}", runs, list(lowerings))
        calls: dict[str, Callable[[], object]] = {name: each for name, each in runs.items()}
        times = median_milliseconds(calls, QUICK_ROUNDS if arguments.quick else ROUNDS)
        peaks: dict[str, float] = {}
        if density == MEMORY_DENSITY and not arguments.no_memory:
            peaks = _peaks(candidates.models, image | selections, threads)
        for row in rows_of(
            times, lowerings, {}, kind="network", shape=network.name, texture=TEXTURE,
            density=density, threads=threads, bound=candidates.bound(image, selections),
        ):  # fmt: skip
            yield dataclasses.replace(row, others=_memory_of(row, peaks))


class _Run:
    """A session with what it takes of some inputs; called, it gives all outputs by name."""

    def __init__(self, session: ort.InferenceSession, inputs: Arrays) -> None:
        wanted = {each.name for each in session.get_inputs()}
        self._session = session
        self._feeds = {name: array for name, array in inputs.items() if name in wanted}

    def __call__(self) -> Arrays:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, self._feeds), strict=True))


def _check(case: str, runs: dict[str, _Run], engines: list[str]) -> None:
    """Hold the network's outputs of every engine to those of the masked dense export."""
    wanted = runs["masked"]()
    heads = [name for name, array in wanted.items() if array.dtype == np.float32]
    for engine in engines:
        found = runs[engine]()
        for name in heads:
            error = np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max()
            if not error <= ERROR_BOUND:
                sys.exit(f"{case}: {name} of {engine} is wrong by {error:.1e} of the largest value")


def _peaks(models: dict[str, onnx.ModelProto], inputs: Arrays, threads: int) -> dict[str, float]:
    """MiB of each model, alone in a process."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "inputs.npz"
        np.savez(given, **inputs)
        for name, model in models.items():
            path = Path(folder) / f"{name}.onnx"
            serialized = model.SerializeToString()
            path.write_bytes(serialized)
            library = op_library() if needs_library(serialized) else None
            peaks[name] = peak_mib(path, given, threads, library)
            path.unlink()
    return peaks


def _memory_of(row: Row, peaks: dict[str, float]) -> dict[str, float]:
    if not peaks:
        return {}
    peak, plain, masked = peaks[row.engine], peaks["dense"], peaks["masked"]
    print(
        f"{row.shape}: peak memory of {row.engine} {peak:.0f} MiB, {peak / plain:.2f} of plain"
        f" ({plain:.0f}), {peak / masked:.2f} of masked ({masked:.0f})"
    )
    return {
        "peak_mib": peak, "peak_over_plain": peak / plain, "peak_over_masked": peak / masked,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
