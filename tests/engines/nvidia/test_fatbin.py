"""GPU code in libraries: as written by hand, by nvcc, and as cuobjdump sees it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.fatbin import GpuCode, read_gpu_code
from pagdeploy.errors import IncompatibleArtifact
from tests.engines.nvidia.toolbox import compile_library, fatbin

ARCHITECTURE, FAMILY = 1 << 20, 1 << 21


def test_entries_are_listed_once_and_sorted(tmp_path):
    entries = [(2, 120, 0), (2, 90, ARCHITECTURE), (2, 90, 0), (2, 90, 0), (1, 100, FAMILY)]
    path = compile_library(tmp_path / "lib.so", fatbin(*entries, (7, 80, 0)))
    assert read_gpu_code(path) == GpuCode(("sm_90", "sm_90a", "sm_120"), ("compute_100f",))


def test_a_library_without_gpu_code_has_none(tmp_path):
    code = read_gpu_code(compile_library(tmp_path / "lib.so"))
    assert code == GpuCode((), ()) and not code.runs_on("9.0")


def test_a_damaged_fat_binary_is_refused(tmp_path):
    path = compile_library(tmp_path / "lib.so", fatbin((2, 90, 0)))
    content = path.read_bytes()
    magic = (0xBA55ED50).to_bytes(4, "little")
    at = content.index(magic)
    path.write_bytes(content[:at] + b"\0" + content[at + 1 :])
    with pytest.raises(IncompatibleArtifact, match="or it is damaged"):
        read_gpu_code(path)
    # It promises a terabyte of entries.
    endless = content[: at + 8] + (2**40).to_bytes(8, "little") + content[at + 16 :]
    path.write_bytes(endless)
    with pytest.raises(IncompatibleArtifact, match="or it is damaged"):
        read_gpu_code(path)


@pytest.mark.parametrize(
    ("name", "runs", "does_not"),
    [
        ("sm_86", ["8.6", "8.9"], ["8.0", "9.0", "7.5"]),
        ("sm_90", ["9.0"], ["8.9", "10.0"]),
        ("sm_90a", ["9.0"], ["10.0", "12.0"]),
        ("sm_100f", ["10.0", "10.3"], ["11.0", "12.0", "9.0"]),
        ("compute_75", ["7.5", "8.0", "9.0", "12.0"], ["7.0", "6.1"]),
        ("compute_90a", ["9.0"], ["10.0", "8.9"]),
        ("compute_120f", ["12.0", "12.1"], ["13.0"]),
    ],
)
def test_which_gpus_run_it(name, runs, does_not):
    code = GpuCode((name,), ()) if name.startswith("sm") else GpuCode((), (name,))
    assert [gpu for gpu in (*runs, *does_not) if code.runs_on(gpu)] == runs


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize("flags", [[], ["-rdc=true"]], ids=["whole", "relocatable"])
def test_what_nvcc_writes_is_read(tmp_path, flags):
    source = tmp_path / "kernel.cu"
    source.write_text(
        "__global__ void k(float* x) { *x = 1; } void run(float* x) { k<<<1, 1>>>(x); }"
    )
    path = tmp_path / "libkernel.so"
    wanted = ["arch=compute_80,code=sm_80", "arch=compute_90a,code=sm_90a",
              "arch=compute_75,code=compute_75"]  # fmt: skip
    command = ["nvcc", "-shared", "-Xcompiler", "-fPIC", "-cudart", "none", *flags]
    command += [f"-gencode={one}" for one in wanted]
    subprocess.run([*command, "-o", str(path), str(source)], check=True, capture_output=True)
    assert read_gpu_code(path) == GpuCode(("sm_80", "sm_90a"), ("compute_75",))
    agrees_with_cuobjdump(path)


def agrees_with_cuobjdump(path: Path) -> None:
    program = shutil.which("cuobjdump")
    if program is None:
        return
    command = [program, "--list-elf", "--list-ptx", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code = read_gpu_code(path)
    assert set(re.findall(r"(sm_\w+)\.cubin", text)) == set(code.sass)
    ptx = {name.replace("compute", "sm") for name in code.ptx}
    assert set(re.findall(r"(sm_\w+)\.ptx", text)) == ptx
