"""Check the CUDA kernels against PyTorch in double precision, then time them against cuDNN.

    python bench/gpu/kernels.py --json results.json              on a machine with a GPU
    python bench/gpu/kernels.py --self-check                     on the CPU, by the emulator

Stages run one after the other, each in its own process with its own time limit, so that a crash
loses one stage: facts, check, graph, sanitize, time, block. Without a GPU every stage says so and
the exit code is 77. The self-check runs the same code on small shapes; its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import checks
import timing
import torch
from library import Kernels

STAGES = ("facts", "check", "graph", "sanitize", "time", "block")
NO_DEVICE = 77


def facts(kernels: Kernels, small: bool) -> dict[str, Any]:
    """What the machine is, and its ceilings."""
    found: dict[str, Any] = {"torch": torch.__version__, "variants": kernels.variants()}
    if kernels.device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["capability"] = torch.cuda.get_device_capability()
        found["cudnn"] = torch.backends.cudnn.version()
        found |= timing.ceilings()
    return found


def sanitize(kernels: Kernels, small: bool) -> dict[str, Any]:
    """The small checks again under each tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if kernels.device != "cuda" or program is None:
        return {"skipped": "compute-sanitizer needs a GPU and the CUDA toolkit"}
    results = {}
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__]
        # torch's own allocations are not ours to judge: initcheck looks at our kernels only.
        command[3:3] = ["--kernel-name", "kernel_substring=pagdeploy"]
        done = subprocess.run(
            [*command, "--stage", "check", "--small", "--library", str(kernels.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        results[tool] = "clean" if done.returncode == 0 else done.stdout[-2000:]
        print(f"compute-sanitizer {tool}: {'clean' if done.returncode == 0 else 'FAILED'}")
    failed = [tool for tool, text in results.items() if text != "clean"]
    return {"tools": results, "failed": len(failed)}


RUN = {
    "facts": facts,
    "check": checks.check,
    "graph": checks.graph,
    "sanitize": sanitize,
    "time": timing.layers,
    "block": timing.blocks,
}


def run_stage(options: argparse.Namespace) -> int:
    """One stage in this process; its result goes to the JSON file."""
    device = "cpu" if options.self_check else "cuda"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(1)
    kernels = Kernels(options.library, device)
    started = time.monotonic()
    with torch.no_grad():
        result = RUN[options.stage](kernels, options.self_check or options.small)
    result["seconds"] = round(time.monotonic() - started, 1)
    if options.json is not None:
        known = json.loads(options.json.read_text()) if options.json.is_file() else {}
        known[options.stage] = result
        options.json.write_text(json.dumps(known, indent=1))
    return 1 if result.get("failed") else 0


def main() -> int:
    """Run the stages, or the one that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--self-check", action="store_true", help="on the CPU, by the emulator")
    parser.add_argument("--small", action="store_true", help="small shapes only")
    parser.add_argument("--stage", choices=STAGES, help="this stage alone, in this process")
    parser.add_argument("--json", type=Path, help="where results are collected")
    parser.add_argument("--library", type=Path, help="the built library; built if missing")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for each stage")
    options = parser.parse_args()
    if not options.self_check and not torch.cuda.is_available():
        for stage in [options.stage] if options.stage else STAGES:
            print(f"{stage}: skipped: no CUDA device")
        return NO_DEVICE
    name = "libkernels_emulated.so" if options.self_check else "libkernels.so"
    if options.library is None:
        options.library = Path(tempfile.gettempdir()) / "pagdeploy-bench" / name
        if options.stage is None:
            options.library.unlink(missing_ok=True)  # never measure yesterday's build
    if options.stage is not None:
        return run_stage(options)
    if options.self_check:
        print("self-check on the CPU: results count, times do not")
    failed = 0
    for stage in STAGES:
        command = [sys.executable, __file__, "--stage", stage, "--library", str(options.library)]
        command += ["--self-check"] if options.self_check else []
        command += ["--small"] if options.small else []
        command += ["--json", str(options.json)] if options.json else []
        try:
            code = subprocess.run(command, timeout=options.limit, check=False).returncode
        except subprocess.TimeoutExpired:
            code = 124
        print(f"{stage}: {'ok' if code == 0 else f'failed ({code})'}", flush=True)
        failed += code != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
