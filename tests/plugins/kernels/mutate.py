"""Plant bugs in the kernels and see whether the emulated tests notice them.

    python tests/plugins/kernels/mutate.py [--only WORD]

Each bug changes one place of a copy of the sources. A bug is caught if a test fails, the emulator
stops the program, or the test hangs. Exits 1 if any is missed. Takes a quarter of a minute each.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TESTS = Path("tests/plugins/kernels")
CONV, WALK, TAIL, GATE = "perforated_conv", "walk", "fused_tail", "gate"
SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Bug:
    """A planted bug: in `file`, `right` becomes `wrong`; the test named `test` is to notice."""

    name: str
    file: str
    right: str
    wrong: str
    test: str = CONV


KERNEL = "plugins/perforated_conv/kernel.cuh"
ROWS = "plugins/perforated_conv/rows.cuh"
PARAMS = "plugins/perforated_conv/params.hpp"
GEOMETRY = "plugins/perforated_conv/geometry.hpp"
WGMMA = "plugins/perforated_conv/kernel_wgmma.cuh"
FUSED = "plugins/perforated_conv/fused_tail.cuh"
GATE_KERNEL = "plugins/pag_gate/kernel.cuh"

BUGS = (
    Bug("one copy group too few", KERNEL, "<kStages - 2>();\n        __sync",
        "<kStages - 1>();\n        __sync"),
    Bug("no barrier in the main loop", KERNEL, "__syncthreads();  // this stage", "//"),
    Bug("no barrier before the sums", KERNEL,
        "    waitForCopies<0>();\n    __syncthreads();", "    waitForCopies<0>();"),
    Bug("loads the stage that is read", KERNEL, "loader.load(stages + writing *",
        "loader.load(stages + reading *"),
    Bug("no barrier behind the sums", KERNEL,
        "storeSums<Memory::kSumStride>(product, sums);\n        __syncthreads();",
        "storeSums<Memory::kSumStride>(product, sums);"),
    Bug("ragged depth is not masked", KERNEL, "inDepth && pixel >= 0", "pixel >= 0"),
    Bug("ragged columns are not masked", KERNEL, "inDepth && column < columns", "inDepth"),
    Bug("no barrier behind the row table", ROWS,
        "atomicOr(taps, seen);\n        }\n        __syncthreads();",
        "atomicOr(taps, seen);\n        }"),
    Bug("no barrier before the row table", ROWS, "__syncthreads();  // also: nobody", "//"),
    Bug("rounds before adding the base", ROWS, "values[c] += toFloat(shown[c]);",
        "values[c] = toFloat(fromFloat<Element>(values[c])) + 1.002f * toFloat(shown[c]);"),
    Bug("inactive pixels are not activated", PARAMS,
        "return params.mode == kModeAdd\n", "return params.mode == kModeAdd + 7\n"),
    Bug("one row too many is filled", ROWS, "smaller(rowsInList - firstRow, kFillRows)",
        "kFillRows"),
    Bug("right operand's halves swapped", "plugins/common/tile.hpp",
        "{(lane & 7) | ((lane >> 4) << 3), (lane >> 3) & 1}",
        "{(lane & 7) | (((lane >> 3) & 1) << 3), lane >> 4}"),
    Bug("swizzle without the row", "plugins/common/tile.hpp", "chunk ^ (row & 7)",
        "chunk ^ ((row + 1) & 7 & -(row & 1))"),
    Bug("dilation ignored in x", GEOMETRY, "tapX * branch.dilationX", "tapX"),
    Bug("stride ignored in y", GEOMETRY, "at.y * strideY", "at.y"),
    Bug("borders wrap around", GEOMETRY, " && x >= 0 && x < input.width", ""),
    Bug("the last tile is always full", GEOMETRY,
        "smaller(rows - result.firstRow, tileRows)", "tileRows"),
    Bug("groups share their inputs", KERNEL, "std::size_t(tile.group) * groupBytes", "0"),
    Bug("wgmma copies too far ahead", WGMMA, "kAhead = kStages - 2", "kAhead = kStages - 1"),
    Bug("wgmma does not wait for the product", WGMMA, "            waitForProducts<1>();\n", ""),
    Bug("wgmma keeps sums of no step", WGMMA, "steps > 0 ? sums[j * 4 + q] : 0.0f",
        "sums[j * 4 + q]"),
    Bug("walk: writes inactive pixels", ROWS,
        " ||\n            rows.decision[row] != params.values[tile.branch]", "", WALK),
    Bug("walk: decided by the first branch's count", PARAMS,
        "return rowsOf(branch) >= fewestToWalk;", "return rowsOf(0) >= fewestToWalk;", WALK),
    Bug("walk: tiles by the inactive pixels' count", PARAMS,
        "return rows >= fewestToWalk ?", "return rowsOf(branches) >= fewestToWalk ?", WALK),
    Bug("walk: one pixel too early", GEOMETRY,
        "return output.pixels() - output.pixels() / kPixelsPerWasted;",
        "return output.pixels() - output.pixels() / kPixelsPerWasted - 1;", WALK),
    Bug("walk: rows as many as listed", "plugins/perforated_conv/kernel.cuh",
        "return params.tileRowsOf(branch);", "return params.rowsOf(branch);", WALK),
    Bug("walk: decisions of images read per pixel", ROWS,
        "params.selection + pixel / params.pixelsPerDecision", "params.selection + pixel", WALK),
    Bug("walk: the selection of another branch", ROWS,
        "decision[row] = params.values[tile.branch];", "decision[row] = params.values[0];", WALK),
    Bug("walk: trusts a selection that is not there", ROWS,
        "walks && params.selection != nullptr", "walks", WALK),
    Bug("tail: walks by the list's length", FUSED, "return gathered.tileRowsOf(branch);",
        "return gathered.rowsOf(branch);", TAIL),
    Bug("tail: no barrier between strips", FUSED,
        "has been written.\n            __syncthreads();", "has been written.", TAIL),
    Bug("tail: the middle is not activated", FUSED,
        "activate(first + toFloat(bias[column]), params.activation,",
        "activate(first + toFloat(bias[column]), 0,", TAIL),
    Bug("gate: the last of equals wins", "plugins/pag_gate/geometry.hpp", "value > largest",
        "value >= largest", GATE),
    Bug("gate: phases mixed up", "plugins/common/pixel_order.hpp",
        "const int phaseX = rest % phase;\n        rest /= phase;",
        "const int phaseX = rest % phase;", GATE),
    Bug("lists: blocks before are forgotten", GATE_KERNEL,
        "params.pixels[first + before[list[i]] + rank]", "params.pixels[first + rank]", GATE),
    Bug("lists: no barrier before the scan", GATE_KERNEL,
        "        __syncthreads();\n        for (int k = warp; k < lists; k += kWarps)",
        "        for (int k = warp; k < lists; k += kWarps)", GATE),
    Bug("lists: totals are not cleared", GATE_KERNEL, "totals[threadIdx.x] = 0;", "", GATE),
)  # fmt: skip


def build_and_run(bug: Bug, folder: Path) -> str:
    """What became of the bug: "missed", or how it was noticed."""
    for part in ("plugins", str(TESTS)):
        shutil.copytree(ROOT / part, folder / part)
    path = folder / bug.file
    text = path.read_text()
    if text.count(bug.right) < 1:
        return "missed: the place to change is not there any more"
    path.write_text(text.replace(bug.right, bug.wrong, 1))
    emulator = folder / TESTS
    sources = [
        folder / "plugins" / name
        for name in (
            "pag_gate/kernel.cu",
            "perforated_conv/fused_tail.cu",
            "perforated_conv/kernel.cu",
            "perforated_conv/kernel_wgmma.cu",
            "perforated_conv/launch.cu",
            "perforated_conv/support.cu",
            "perforated_conv/cost.cpp",
        )
    ]
    if bug.test == GATE:
        sources = sources[:1]
    sources += [emulator / "emulator/simt_emulator.cpp", emulator / f"{bug.test}_test.cpp"]
    program = folder / "test"
    command = ["g++", "-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-w", f"-I{emulator}/emulator"]
    command += [f"-I{emulator}", f"-I{folder}/plugins", "-x", "c++", *map(str, sources)]
    command += ["-x", "none", "-o", str(program), "-lgtest", "-lgtest_main", "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        return f"missed: it does not compile: {built.stderr[-300:]}"
    try:
        done = subprocess.run(
            [str(program), "--gtest_brief=1", "--gtest_fail_fast"],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "caught: it hangs"
    if done.returncode == 0:
        return "missed"
    said = (done.stderr + done.stdout).splitlines()
    marks = ("emulator:", "firstBad", "Which is", "Expected", "pixel ")
    return "caught: " + next((s.strip()[:90] for s in said if any(m in s for m in marks)), "crash")


def main() -> None:
    """Plant every bug in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="bugs whose name has this word")
    word = parser.parse_args().only
    bugs = [bug for bug in BUGS if word in bug.name]
    missed = 0
    for bug in bugs:
        with tempfile.TemporaryDirectory() as folder:
            result = build_and_run(bug, Path(folder))
        missed += not result.startswith("caught")
        print(f"{bug.name}: {result}", flush=True)
    print(f"{len(bugs) - missed} of {len(bugs)} planted bugs caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
