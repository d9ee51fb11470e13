"""The CUDA driver: which GPUs it offers, or why it offers none."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pagdeploy.engines.nvidia.obstacle import Obstacle

_PROBE = Path(__file__).with_name("driver_probe.py")
_PATIENCE = 60  # seconds; a GPU without persistence takes some to wake up
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")

# What helps against the errors of cuInit() that have one cause.
_NO_DEVICE = "CUDA_ERROR_NO_DEVICE"
_REINSTALL = "Install the driver again."
_REMEDIES = {
    _NO_DEVICE: "Unset CUDA_VISIBLE_DEVICES if it hides the GPU; start a container"
    " with --gpus all.",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "The driver was updated under a running system: reboot.",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "Take CUDA's forward-compatibility package out of"
    " LD_LIBRARY_PATH, or install a newer driver.",
    "CUDA_ERROR_SYSTEM_NOT_READY": "Start the service nvidia-fabricmanager.",
    "CUDA_ERROR_UNKNOWN": "Load the kernel module: sudo modprobe nvidia-uvm",
}


@dataclass(frozen=True)
class Gpu:
    """A GPU that the CUDA driver offers.

    Attributes:
        index: As CUDA counts, within CUDA_VISIBLE_DEVICES.
        name: Of the product.
        compute_capability: "8.9".
        memory: In bytes.
        uuid: As nvidia-smi prints it.
    """

    index: int
    name: str
    compute_capability: str
    memory: int
    uuid: str


@dataclass(frozen=True)
class Driver:
    """What the driver answers.

    Attributes:
        gpus: What it offers.
        cuda: The newest CUDA that it can serve, "13.0"; None if there is no driver.
        obstacle: Why it offers none.
        broken: Whether the obstacle is a fault, and not the mere absence of a GPU.
    """

    gpus: tuple[Gpu, ...]
    cuda: str | None
    obstacle: Obstacle | None
    broken: bool = False


def gpus() -> list[Gpu]:
    """The GPUs that CUDA programs see here; empty if there is none, for whatever reason."""
    return list(driver().gpus)


def why_no_gpu(needs_cuda: int = 0) -> Obstacle | None:
    """None if there is a GPU that can be used, else the reason.

    Args:
        needs_cuda: Major version of the CUDA runtime that is to run on it; any minor one will do
            (CUDA's minor version compatibility).
    """
    found = driver()
    if found.obstacle is None and found.cuda is not None:
        if int(found.cuda.partition(".")[0]) < needs_cuda:
            return Obstacle(
                f"The driver serves CUDA {found.cuda}, and CUDA {needs_cuda} is needed.",
                "Install a newer driver.",
            )
    return found.obstacle


@functools.cache
def driver() -> Driver:
    """The answer of this machine's driver, asked for once."""
    return ask()


def ask(library: str = "libcuda.so.1") -> Driver:
    """Ask a driver's library, in a child process; it may end or hang without harm to this one."""
    command = [sys.executable, "-I", str(_PROBE), library]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        obstacle = Obstacle(f"The CUDA driver does not answer within {_PATIENCE} s.", "Reboot.")
        return Driver((), None, obstacle, broken=True)
    except (OSError, ValueError):
        obstacle = Obstacle("The CUDA driver ends the process that asks it.", _REINSTALL)
        return Driver((), None, obstacle, broken=True)
    version = int(answer["cuda"])
    cuda = f"{version // 1000}.{version % 1000 // 10}" if version else None
    if answer["problem"] == "library":
        return _without_library(str(answer["detail"]))
    name = str(answer["problem"] or (_NO_DEVICE if not answer["gpus"] else ""))
    if name:
        obstacle = Obstacle(
            f"The CUDA driver offers no GPU ({name}).", _REMEDIES.get(name, _REINSTALL)
        )
        return Driver((), cuda, obstacle, broken=name != _NO_DEVICE)
    return Driver(tuple(Gpu(**gpu) for gpu in answer["gpus"]), cuda, None)


def _without_library(detail: str) -> Driver:
    if kernel_driver() is None:
        obstacle = Obstacle(
            "There is no NVIDIA driver here: libcuda.so.1 cannot be loaded.",
            "Install NVIDIA's driver if this machine has a GPU of theirs; start a container with"
            " --gpus all.",
        )
        return Driver((), None, obstacle)
    obstacle = Obstacle(
        "The kernel has NVIDIA's driver, but its library libcuda.so.1 cannot be loaded"
        f" ({detail}).",
        "Install the driver's user-space part (libcuda1); start a container with --gpus all.",
    )
    return Driver((), None, obstacle, broken=True)


def kernel_driver(file: Path | None = None) -> str | None:
    """Version of the loaded kernel module, such as "580.65.06"."""
    try:
        text = (file or _KERNEL_MODULE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None
