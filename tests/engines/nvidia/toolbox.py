"""What these tests make their files of: plans by hand and by TensorRT-RTX, libraries by cc."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest


def plan_bytes(
    tag: bytes = b"ftrt",
    version: tuple[int, int, int, int] = (10, 15, 1, 29),
    *,
    layout: int = 0,
    gpus: int = 0,
    body: int = 28,
) -> bytes:
    """A plan's 36-byte header, with nothing of sense behind it."""
    size = 36 + body
    return struct.pack("<4sIQQ4B4sI", tag, layout, 2, size, *version, tag, gpus) + bytes(body)


def old_plan_bytes(serialization: int = 232, body: int = 40) -> bytes:
    """A plan as TensorRT 8.5 and older write it."""
    return struct.pack("<4sIQQ", b"ptrt", 0, serialization, body) + bytes(body)


def compile_library(target: Path, source: str = "", *flags: str, compiler: str = "cc") -> Path:
    """Compile C into a shared library whose soname is its file name, or skip."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.with_suffix(".c")
    file.write_text(source or "int empty;", encoding="utf-8")
    base = [compiler, "-shared", "-fPIC", "-Wl,--no-as-needed", f"-Wl,-soname,{target.name}"]
    subprocess.run([*base, "-o", str(target), str(file), *flags], check=True, capture_output=True)
    file.unlink()
    return target


PLUGIN = """
void* getCreators(int* count) { *count = 0; return 0; }
void setLoggerFinder(void* finder) { (void)finder; }
"""


def fatbin(*entries: tuple[int, int, int]) -> str:
    """C that puts a fat binary into its section: (1 PTX or 2 SASS, architecture, flags) each."""
    body = b"".join(
        struct.pack("<HHIQ12xI8xQ16x", kind, 0x101, 64, 8, architecture, flags) + bytes(8)
        for kind, architecture, flags in entries
    )
    data = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
    numbers = ",".join(map(str, data))
    place = '__attribute__((section(".nv_fatbin"), aligned(8), used))'
    return f"{place} static const unsigned char code[] = {{{numbers}}};\n"
