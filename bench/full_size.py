"""Export, build and verify PAG-ResNet-50 at 480x640; print wall time and peak memory of each.

    python bench/full_size.py

The weights are random, so the densities mean nothing; the size is what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = {
    "export": "pagdeploy.exporters.models.pag_resnet:resnet50 -o m.onnx --shapes image:1x3x480x640",
    "build": "m.onnx -o m.pagbundle",
    "verify": "m.pagbundle",
}
MAX_SECONDS, MAX_GIB = 180, 8


def main() -> int:
    """Run the steps; returns 1 if they fail or take more than the limits."""
    total, largest = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for verb, arguments in STEPS.items():
            seconds, gib = _run([verb, *arguments.split()], Path(folder))
            print(f"{verb:7} {seconds:6.1f} s  peak {gib:.2f} GiB", flush=True)
            total, largest = total + seconds, max(largest, gib)
    print(
        f"total   {total:6.1f} s  peak {largest:.2f} GiB  (limits {MAX_SECONDS} s, {MAX_GIB} GiB)"
    )
    return int(total > MAX_SECONDS or largest > MAX_GIB)


def _run(arguments: list[str], folder: Path) -> tuple[float, float]:
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "pagdeploy", *arguments], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)  # the only way to one child's peak memory
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"pagdeploy {' '.join(arguments)} exits {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
