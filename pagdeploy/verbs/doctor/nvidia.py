"""The NVIDIA driver and its GPUs."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator

from pagdeploy.engines.nvidia.driver import Gpu, kernel_driver
from pagdeploy.verbs.doctor.finding import Finding, Machine

_QUERY = ("uuid", "persistence_mode", "clocks.sm", "clocks.max.sm")


def findings(machine: Machine) -> Iterator[Finding]:
    """The driver, and each GPU with its clocks."""
    driver = machine.driver
    if driver.obstacle is not None:
        yield Finding.of("nvidia driver", "problem" if driver.broken else "absent", driver.obstacle)
        if not driver.broken:
            cores = len(os.sched_getaffinity(0))
            yield Finding("nvidia gpu", "absent", f"none found; {cores} CPU cores will be used")
        return
    yield Finding("nvidia driver", "ok", f"{kernel_driver() or '?'}, CUDA {driver.cuda}")
    for gpu in driver.gpus:
        yield Finding(f"gpu {gpu.index}", "ok", _described(gpu))
    yield from _clocks(machine)


def _described(gpu: Gpu) -> str:
    memory = gpu.memory / 2**30
    return f"{gpu.name}, compute capability {gpu.compute_capability}, {memory:.0f} GiB"


def _clocks(machine: Machine) -> Iterator[Finding]:
    """Clocks and persistence, which nvidia-smi tells: it comes with the driver."""
    subject = "gpu clocks"
    path = shutil.which("nvidia-smi", path=machine.environment.get("PATH", ""))
    if path is None:
        advice = "Optional: it comes with the driver, and shows clocks and persistence."
        yield Finding(subject, "absent", "nvidia-smi is not on the PATH", advice)
        return
    command = [path, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        yield Finding(subject, "problem", f"nvidia-smi fails: {problem}", "Check the driver.")
        return
    rows = [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines())]
    known = {row[0]: row[1:] for row in rows if len(row) == len(_QUERY)}
    for gpu in machine.driver.gpus:
        if gpu.uuid not in known:
            continue
        persistence, now, highest = known[gpu.uuid]
        awake = persistence == "Enabled"
        advice = f"For steady times lock the clock: sudo nvidia-smi -i {gpu.uuid} -lgc {highest}"
        if not highest.isdigit():  # "[N/A]", where the clocks are not to be set
            advice = ""
        if not awake:
            advice = f"Keep the driver loaded: sudo nvidia-smi -i {gpu.uuid} -pm 1"
        found = f"SM {now} of {highest} MHz now, persistence {'on' if awake else 'off'}"
        yield Finding(f"gpu {gpu.index} clocks", "ok", found, advice)
