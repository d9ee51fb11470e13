"""Gated residual blocks, compiled, against dense onnxruntime, block by block, in one process.

    python bench/cpu_blocks.py [--quick] [--json FILE] [--threads 2] [--shapes b256 r7]

Two engines: "pure", the gather lowering in standard ONNX, and "native", with our op library, where
it is installed. A row names shape, texture, density, threads, the plain dense network's
milliseconds, the ratio (dense time over the engine's), the same over the masked dense export, and
the bound (dense products over the engine's). The dense networks are channels first, as onnxruntime
likes it best; the engines get and give channels last, as they stand inside of a gated stage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from cpu.blocks import BLOCKS, DEPTHWISE_BLOCKS, SMALL_BLOCKS, Block, dense_model, gated_model
from cpu.masks import mask
from cpu.timing import be_favoured, median_milliseconds

from pagdeploy.engines.ort_native import needs_library, op_library
from pagdeploy.pipeline import lower

DENSITIES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)
QUICK_DENSITIES = (1.0, 0.5, 0.1)
ERROR_BOUND = 1e-5  # of the largest value


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured case."""

    shape: str
    texture: str
    density: float
    threads: int
    engine: str
    ratio: float
    over_masked: float
    bound: float
    dense_ms: float


def main() -> int:
    """Measure; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--json", type=Path, help="where the rows are written, too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", nargs="*", help="only these")
    parser.add_argument(
        "--channels-first", action="store_true", help="a layout change at both ends of each block"
    )
    arguments = parser.parse_args()
    library = op_library()
    engines = {"pure": "gather"} if library is None else {"pure": "gather", "native": "native"}
    if library is None:
        print("no libpagdeploy_ort.so: the pure engine alone is measured")
    be_favoured()
    # One pool for all sessions: the idle threads of one would spin on the cores of another.
    ort.set_global_thread_pool_sizes(arguments.threads, 1)
    blocks = BLOCKS[:1] + SMALL_BLOCKS[-1:] if arguments.quick else _all_blocks()
    if arguments.shapes:
        blocks = tuple(block for block in _all_blocks() if block.name in arguments.shapes)
    densities = QUICK_DENSITIES if arguments.quick else DENSITIES
    rounds = 3 if arguments.quick else 6
    rows = []
    for block in blocks:
        for row in measure(block, densities, engines, arguments, rounds):
            _print(row)
            rows.append(dataclasses.asdict(row))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _all_blocks() -> tuple[Block, ...]:
    return BLOCKS + SMALL_BLOCKS + DEPTHWISE_BLOCKS


def measure(
    block: Block,
    densities: Iterable[float],
    engines: Mapping[str, str],
    arguments: argparse.Namespace,
    rounds: int,
) -> Iterator[Row]:
    """Rows of one block; every result is compared with the dense one before it is timed.

    Args:
        block: Its shape.
        densities: Shares of active pixels.
        engines: Lowering by name of the engine.
        arguments: Threads of the pool that all sessions share, and the engines' layout.
        rounds: Of the stopwatch.
    """
    dense = Bound(dense_model(block))
    masked = Bound(lower(gated_model(block), "dense"))
    compiled = {
        name: Bound(lower(gated_model(block, not arguments.channels_first), lowering))
        for name, lowering in engines.items()
    }
    x = np.abs(np.random.default_rng(2).standard_normal((1, block.channels, *block.size)))
    x = x.astype(np.float32)
    dense.feed(x=x)
    wanted = dense.run().transpose(0, 2, 3, 1)
    x_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    for density in densities:
        for texture in ("salt", "blob") if density < 1 else ("salt",):
            active = mask(texture, block.size, density)
            selection = active[None, None].astype(np.int32)
            masked.feed(x=x, selection=selection)
            expected = np.where(active[None, :, :, None], wanted, x_last)
            if arguments.channels_first:
                expected = expected.transpose(0, 3, 1, 2)
            for name, engine in compiled.items():
                engine.feed(x=x if arguments.channels_first else x_last, selection=selection)
                error = np.abs(engine.run() - expected).max() / np.abs(expected).max()
                if not error <= ERROR_BOUND:
                    sys.exit(f"{block.name} {texture} {density} {name}: wrong by {error:.1e}")
            runs = {name: engine.run for name, engine in compiled.items()}
            times = median_milliseconds({"dense": dense.run, "masked": masked.run, **runs}, rounds)
            for name in compiled:
                yield Row(
                    block.name, texture, density, arguments.threads, name,
                    ratio=times["dense"] / times[name],
                    over_masked=times["masked"] / times[name],
                    bound=block.bound(active),
                    dense_ms=times["dense"],
                )  # fmt: skip


class Bound:
    """A session with inputs and output where they stay."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = ort.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = 3
        if needs_library(model.SerializeToString()):
            options.register_custom_ops_library(str(op_library()))
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._binding = self._session.io_binding()
        self._y = np.empty(self._session.get_outputs()[0].shape, np.float32)
        self._kept: dict[str, Any] = {}

    def feed(self, **arrays: np.ndarray) -> None:
        """Bind inputs by name."""
        self._kept = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in arrays.items()}
        for name, value in self._kept.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(
            "y", "cpu", 0, np.float32, list(self._y.shape), self._y.ctypes.data
        )

    def run(self) -> np.ndarray:
        """The output, valid until the next run."""
        self._session.run_with_iobinding(self._binding)
        return self._y


def _print(row: Row) -> None:
    print(
        f"{row.shape:6} {row.texture:4} {row.density:4.1f}  {row.engine:6} {row.threads} threads  "
        f"ratio {row.ratio:5.2f}  bound {row.bound:5.2f}  ({row.ratio / row.bound:4.2f} of it)  "
        f"over masked {row.over_masked:5.2f}  dense {row.dense_ms:7.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
