"""Gated blocks, compiled, against dense onnxruntime, shape by shape, in one process.

    python bench/cpu_blocks.py [--quick] [--json FILE] [--threads N ...] [--kinds block pag ...]

What is timed is a row of three blocks (`--blocks`), each with a selection of its own, channels
first at both ends, for every engine alike: the way that a stage of a network stands between its
neighbours. So the changes of layout that each engine wants, onnxruntime's own among them, are on
its bill, but once a stage and not once a block. `--blocks 1` shows what they cost a single block.
With `--channels-last` our engines get and give channels last, as in the middle of a long stage;
that flatters the native engine, whose kernels work so, and wrongs the pure one where it has chosen
the dense convolution, which works channels first.

Two engines: "pure", the gather lowering in standard ONNX, and "native", with our op library, where
it is installed. Two baselines, always: the plain dense blocks, which skip nothing and so compute
something else, and the masked dense export, which computes the same. Bound is dense products over
needed ones, efficiency is the ratio over plain by the bound. Kinds:

    block       a bottleneck that is gated as a whole
    odd         the same, of sizes and channels that no kernel was made for
    small       the same, on the small maps of a classifier, down to 7x7
    depthwise   an inverted residual that is gated as a whole
    pag         PAG's own form, where the 3x3 alone is gated
    conv        that 3x3 alone
    pool        MultiPool; plain is one dilated convolution, masked is all six
    int8        bottlenecks and PAG's own in int8, dense and engines all quantized; results must be
                equal bit by bit where the gate replaces. A sum in front of a shortcut is exact in
                one and of float32 products in the other, so that some are rounded to the other
                neighbour: rows tell the differences. The native engine has it in PAG's own, too
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from cpu.blocks import (
    BLOCKS,
    DEPTHWISE_BLOCKS,
    INT8_BLOCKS,
    MULTI_POOLS,
    ODD_BLOCKS,
    PAG_BLOCKS,
    PAG_CONVS,
    SMALL_BLOCKS,
    Block,
    dense_model,
    gated_model,
    selection_name,
)
from cpu.driver import Row, parser_of, positive, require_known, rows_of, run
from cpu.int8 import int8_models
from cpu.masks import selection_of
from cpu.peers import dense_peers, installed_peers
from cpu.sessions import Bound
from cpu.timing import median_milliseconds

from pagdeploy.engines.ort_native import op_library
from pagdeploy.pipeline import lower

DENSITIES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)
QUICK_DENSITIES = (1.0, 0.5, 0.1)
POOL_DENSITIES = (6 / 7,)  # pixels that choose evenly; the seventh branch copies
SPREAD, RUNS = ("salt", "blob"), ("pag",)
ERROR_BOUND = 1e-5  # of the largest value
STEP = 1 / 255  # of the largest value, in int8
SLOW_MS = 150.0  # fewer rounds are taken of what takes longer

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Blocks that are measured alike.

    Attributes:
        blocks: All of them.
        textures: Of the selections; one of them where all pixels are active.
        densities: To measure at, but for `--quick`.
        quick: How many blocks, the first ones, `--quick` takes.
    """

    blocks: tuple[Block, ...]
    textures: tuple[str, ...] = SPREAD
    densities: tuple[float, ...] = DENSITIES
    quick: int = 1


KINDS = {
    "block": Kind(BLOCKS),
    "odd": Kind(ODD_BLOCKS),
    "small": Kind(SMALL_BLOCKS[::-1]),
    "depthwise": Kind(DEPTHWISE_BLOCKS),
    "pag": Kind(PAG_BLOCKS, RUNS),
    "conv": Kind(PAG_CONVS, RUNS),
    "pool": Kind(MULTI_POOLS, ("pag", "blob"), POOL_DENSITIES),
    "int8": Kind(INT8_BLOCKS, quick=2),
}


def main() -> int:
    """Measure; returns 0 if every result was right."""
    parser = parser_of((__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help=f"some of {', '.join(KINDS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--blocks", type=positive, default=3, help="how many in a row (default: 3)")
    parser.add_argument("--densities", type=float, nargs="+", help="others than the kind's own")
    parser.add_argument(
        "--channels-last", action="store_true", help="no change of layout for our engines"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out OpenVINO and torch.compile"
    )
    arguments = parser.parse_args()
    blocks = (block for kind in arguments.kinds for block in KINDS[kind].blocks)
    require_known(parser, arguments.shapes, (block.name for block in blocks))
    return run(arguments, sys.argv[1:], _measure)


def _measure(arguments: argparse.Namespace) -> Iterator[Row]:
    if not arguments.no_peers:
        for name, here in installed_peers().items():
            if not here:
                print(f"{name} is not installed and is left out.")
    for kind in arguments.kinds:
        blocks = KINDS[kind].blocks
        if arguments.shapes:
            blocks = tuple(block for block in blocks if block.name in arguments.shapes)
        elif arguments.quick:
            blocks = blocks[: KINDS[kind].quick]
        for block in blocks:
            yield from _rows(kind, block, arguments)


def _rows(kind: str, block: Block, arguments: argparse.Namespace) -> Iterator[Row]:
    """Rows of one block; every result is compared with a dense one before it is timed."""
    bench = _Bench(kind, block, arguments)
    densities = KINDS[kind].densities
    if arguments.quick and len(densities) > 1:
        densities = QUICK_DENSITIES
    for density in arguments.densities or densities:
        for texture in KINDS[kind].textures[: 1 if density >= 1 else None]:
            yield from bench.measure(texture, density)


class _Bench:
    """The sessions of one block."""

    def __init__(self, kind: str, block: Block, arguments: argparse.Namespace) -> None:
        self.kind, self.block, self.count = kind, block, arguments.blocks
        self.arguments = arguments
        self.lowerings = {"pure": "gather", "native": "native"}
        if op_library() is None:
            del self.lowerings["native"]
        self.channels_last = arguments.channels_last and kind != "int8"
        x = np.random.default_rng(2).standard_normal((1, block.channels, *block.size))
        self.x = np.abs(x).astype(np.float32)
        self.x_last = np.ascontiguousarray(self.x.transpose(0, 2, 3, 1))
        self.sessions = {name: Bound(model) for name, model in self._models().items()}
        self.sessions["dense"].feed(x=self.x)
        self.others: dict[str, float] = {}
        self.differences: dict[str, dict[str, float]] = {}  # by engine

    def _models(self) -> dict[str, onnx.ModelProto]:
        block, count = self.block, self.count
        if self.kind == "int8":
            inputs = {"x": self.x, **self._selections("salt", 0.5)}
            return int8_models(block, count, inputs, self.lowerings)
        gated = gated_model(block, count=count)
        models = {"dense": dense_model(block, count), "masked": lower(gated, "dense")}
        for name, lowering in self.lowerings.items():
            models[name] = lower(gated_model(block, self.channels_last, count), lowering)
        return models

    def _selections(self, texture: str, density: float) -> dict[str, npt.NDArray[np.int32]]:
        return {
            selection_name(number): selection_of(
                texture, self.block.size, density, self.block.branches, seed=number
            )
            for number in range(self.count)
        }

    def measure(self, texture: str, density: float) -> Iterator[Row]:
        """Rows of one case."""
        selections = self._selections(texture, density)
        for name, session in self.sessions.items():
            if name != "dense":
                last = self.channels_last and name != "masked"
                session.feed(x=self.x_last if last else self.x, **selections)
        self._check(texture, density)
        runs: dict[str, Callable[[], object]] = {n: s.run for n, s in self.sessions.items()}
        times = median_milliseconds(runs, self._rounds())
        if not self.others:
            self.others = self._others()
        for engine in self.lowerings:
            yield from rows_of(
                times, [engine], self.others | self.differences.get(engine, {}), kind=self.kind,
                shape=self.block.name, texture=texture, density=density,
                threads=self.arguments.threads[0],
                bound=self.block.bound(*(s[0, 0] for s in selections.values())),
            )  # fmt: skip

    def _check(self, texture: str, density: float) -> None:
        """Hold every engine to the masked dense export, and that to the plain one if it can be."""
        results = {name: session.run() for name, session in self.sessions.items()}
        wanted = results["masked"]
        compared = {name: results[name] for name in self.lowerings}
        if density >= 1 and self.kind not in ("pool", "int8"):
            compared["dense"] = results["dense"]
        for name, found in compared.items():
            if self.channels_last and name in self.lowerings:
                found = found.transpose(0, 3, 1, 2)
            error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            if not error <= self._error_bound(name):
                sys.exit(
                    f"{self.block.name} {texture} {density}: {name} is wrong by {error:.1e} of the"
                    " largest value."
                )
            if self.kind == "int8":
                unequal = float(np.mean(found != wanted))
                self.differences[name] = {"unequal": unequal, "largest_difference": error}

    def _error_bound(self, engine: str) -> float:
        if self.kind != "int8":
            return ERROR_BOUND
        # The sum in front of a shortcut is one of float32 products in the dense export.
        adds = self.block.form == "whole" or engine == "native"
        return 2 * STEP * self.count if adds else 0.0

    def _rounds(self) -> int:
        slow = _milliseconds(self.sessions["dense"].run) > SLOW_MS
        return 3 if self.arguments.quick or slow else 6

    def _others(self) -> dict[str, float]:
        """Milliseconds of other dense engines; of int8, of the dense float32 model."""
        runs: Mapping[str, Callable[[], Array]] = {}
        if self.kind == "int8":
            whole = Bound(dense_model(self.block, self.count, framed=True))
            whole.feed(x=self.x)
            runs = {"dense float32": whole.run}
        elif self.kind in ("block", "depthwise") and not self.arguments.no_peers:
            model = dense_model(self.block, self.count)
            runs = dense_peers(model, self.x, self.arguments.threads[0])
            wanted = self.sessions["dense"].run()
            for name, each in runs.items():
                error = float(np.abs(each() - wanted).max() / np.abs(wanted).max())
                if not error <= 10 * ERROR_BOUND:
                    sys.exit(f"{self.block.name}: {name} is wrong by {error:.1e}")
        if not runs:
            return {}
        times = median_milliseconds({**runs, "dense": self.sessions["dense"].run}, self._rounds())
        dense = times.pop("dense")
        for name, ms in times.items():
            print(f"{self.block.name}: {name} {ms:.2f} ms, dense onnxruntime beside it {dense:.2f}")
        return times


def _milliseconds(function: Callable[[], object]) -> float:
    return median_milliseconds({"once": function}, 1)["once"]


if __name__ == "__main__":
    sys.exit(main())
