"""Run one model, and nothing else, in this process; print the most memory that it ever held.

python peak_memory.py MODEL INPUTS.npz THREADS [OPS]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

RUNS = 3


def peak_mib(model: Path, inputs: Path, threads: int, library: Path | None) -> float:
    """The same of a process of its own.

    Args:
        model: An ONNX file.
        inputs: Arrays by name; those that the model does not take are left out.
        threads: Inside one operator.
        library: Of our ops, if the model needs it.
    """
    command = [sys.executable, __file__, str(model), str(inputs), str(threads)]
    command += [str(library)] if library else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Run the model of the command line."""
    model, inputs, threads, *libraries = sys.argv[1:]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(threads)
    for library in libraries:
        options.register_custom_ops_library(library)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(inputs) as arrays:
        feeds = {each.name: arrays[each.name] for each in session.get_inputs()}
    for _ in range(RUNS):
        session.run(None, feeds)
    # Not getrusage: what it reports begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)  # Linux counts KiB


if __name__ == "__main__":
    main()
