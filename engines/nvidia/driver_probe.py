"""Ask the CUDA driver for its GPUs and print the answer as JSON; run as a program, by path.

A process of its own, because cuInit() cannot be taken back: afterwards CUDA is lost to every child
that forks, and a broken driver has ended its host. Needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
from typing import Any

_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: compute capability


def main(library: str) -> dict[str, Any]:
    """The driver's answer: "gpus", "cuda" and, if it does not work, "problem"."""
    answer: dict[str, Any] = {"gpus": [], "cuda": 0, "problem": None}
    try:
        cuda = ctypes.CDLL(library)
    except OSError as problem:
        return {**answer, "problem": "library", "detail": str(problem)}
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)) == 0:
        answer["cuda"] = version.value
    for code in (cuda.cuInit(0), cuda.cuDeviceGetCount(ctypes.byref(count))):
        if code != 0:
            return {**answer, "problem": _name_of(cuda, code)}
    answer["gpus"] = [_gpu(cuda, index) for index in range(count.value)]
    return answer


def _gpu(cuda: Any, index: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    uuid = (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    uuid_of = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid  # v2 is of 11.4
    uuid_of(uuid, device)
    digits = bytes(uuid).hex()
    cuts = (0, 8, 12, 16, 20, 32)
    return {
        "index": index,
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{major.value}.{minor.value}",
        "memory": memory.value,
        "uuid": "GPU-" + "-".join(digits[a:b] for a, b in itertools.pairwise(cuts)),
    }


def _name_of(cuda: Any, code: int) -> str:
    name = ctypes.c_char_p()
    if cuda.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value:
        return name.value.decode()
    return f"CUDA error {code}"


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
