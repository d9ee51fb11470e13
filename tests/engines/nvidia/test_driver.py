"""The CUDA driver: here a small one that cc makes, so that every answer of one can be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pagdeploy.engines.nvidia import driver as module
from pagdeploy.engines.nvidia.driver import Gpu, ask, kernel_driver, why_no_gpu
from tests.engines.nvidia.toolbox import compile_library

DRIVER = r"""
#include <stddef.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
int cuDriverGetVersion(int* v) { *v = 13000; return 0; }
int cuInit(unsigned flags) { BEFORE; return (int)flags + INIT; }
int cuDeviceGetCount(int* n) { *n = COUNT; return 0; }
int cuDeviceGet(int* d, int i) { *d = i; return 0; }
int cuDeviceGetName(char* s, int n, int d) {
    strncpy(s, d ? "NVIDIA L4" : "NVIDIA H200", n); return 0;
}
int cuDeviceGetAttribute(int* v, int a, int d) {
    *v = a == 75 ? (d ? 8 : 9) : a == 76 ? (d ? 9 : 0) : -1; return 0;
}
int cuDeviceTotalMem_v2(size_t* n, int d) { *n = (size_t)(d ? 24 : 141) << 30; return 0; }
int cuDeviceGetUuid(unsigned char* u, int d) {
    for (int i = 0; i < 16; i++) u[i] = i + d;
    return 0;
}
int cuGetErrorName(int e, const char** s) {
    *s = e == 100 ? "CUDA_ERROR_NO_DEVICE" : e == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : 0;
    return *s ? 0 : 1;
}
"""


def fake_driver(folder: Path, *, init: int = 0, count: int = 2, before: str = "") -> str:
    """A driver that answers so."""
    flags = [f"-DINIT={init}", f"-DCOUNT={count}", f"-DBEFORE={before}"]
    return str(compile_library(folder / "libcuda.so.1", DRIVER, *flags))


def test_gpus_are_told_with_all_that_counts(tmp_path):
    found = ask(fake_driver(tmp_path))
    assert (found.cuda, found.obstacle, found.broken) == ("13.0", None, False)
    first = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    second = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"
    assert found.gpus == (
        Gpu(0, "NVIDIA H200", "9.0", 141 << 30, first),
        Gpu(1, "NVIDIA L4", "8.9", 24 << 30, second),
    )


@pytest.mark.parametrize(
    ("init", "count", "reason", "remedy", "broken"),
    [
        (100, 0, "offers no GPU (CUDA_ERROR_NO_DEVICE)", "Unset CUDA_VISIBLE_DEVICES", False),
        (0, 0, "offers no GPU (CUDA_ERROR_NO_DEVICE)", "Unset CUDA_VISIBLE_DEVICES", False),
        (803, 1, "(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)", "reboot", True),
        (5, 1, "offers no GPU (CUDA error 5)", "Install the driver again", True),
    ],
)
def test_errors_have_their_name_and_a_remedy(tmp_path, init, count, reason, remedy, broken):
    found = ask(fake_driver(tmp_path, init=init, count=count))
    assert found.gpus == () and found.cuda == "13.0" and found.broken is broken
    assert reason in found.obstacle.reason and remedy in found.obstacle.remedy


@pytest.mark.parametrize("fault", ["abort()", "*(volatile int*)0=1"])
def test_a_driver_that_ends_its_process_does_not_end_ours(tmp_path, fault):
    found = ask(fake_driver(tmp_path, before=fault))
    assert found.broken
    assert found.obstacle.reason == "The CUDA driver ends the process that asks it."


def test_a_driver_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 1)
    found = ask(fake_driver(tmp_path, before="sleep(30)"))
    assert found.broken and found.obstacle.reason == "The CUDA driver does not answer within 1 s."


def test_a_driver_that_talks_is_understood(tmp_path):
    assert len(ask(fake_driver(tmp_path, before='(void)!write(1,"hello\\n",6)')).gpus) == 2


def test_no_library_is_no_fault_unless_the_kernel_has_a_driver(tmp_path, monkeypatch):
    file = tmp_path / "version"
    monkeypatch.setattr(module, "_KERNEL_MODULE", file)
    found = ask(str(tmp_path / "libcuda.so.1"))
    assert not found.broken and "There is no NVIDIA driver here" in found.obstacle.reason
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 06:32:39\n"
    )
    found = ask(str(tmp_path / "libcuda.so.1"))
    assert found.broken and "its library libcuda.so.1 cannot be loaded" in found.obstacle.reason


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27", "580.65.06"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  R", "570.124.06"),
        ("something else", None),
    ],
)
def test_the_kernel_module_tells_its_version(tmp_path, line, version):
    (tmp_path / "version").write_text(line)
    assert kernel_driver(tmp_path / "version") == version


def test_an_old_driver_is_too_old_for_a_new_cuda(tmp_path, monkeypatch):
    answer = ask(fake_driver(tmp_path))
    monkeypatch.setattr(module, "driver", lambda: answer)
    assert why_no_gpu() is None and why_no_gpu(needs_cuda=13) is None
    found = why_no_gpu(needs_cuda=14)
    assert (
        str(found) == "The driver serves CUDA 13.0, and CUDA 14 is needed. Install a newer driver."
    )


def test_asking_does_not_load_cuda_into_this_process():
    code = (
        "from pagdeploy.engines.nvidia.driver import gpus; gpus();"
        "print('libcuda.so' in open('/proc/self/maps').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
