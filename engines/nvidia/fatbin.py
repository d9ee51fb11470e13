"""Which GPUs a library has code for: machine code (SASS) and PTX in its fat binaries.

A section is a run of fat binaries, 8-byte aligned: u32 magic, u16 version, u16 header bytes, u64
bytes that follow. Those are entries: u16 kind (1 PTX, 2 SASS), u16 version, u32 header bytes, u64
bytes that follow, and in the header u32 architecture at 28 and u64 flags at 40. NVIDIA documents
none of it; it is what nvcc 13.0 writes, and agrees with cuobjdump --list-elf --list-ptx.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pagdeploy.engines.nvidia.elf import reading

_SECTIONS = (".nv_fatbin", "__nv_relfatbin")  # whole-program and relocatable device code
_MAGIC = 0xBA55ED50
_FATBIN = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQ12xI8xQ")
_PTX, _SASS = 1, 2
_FAMILY, _ARCHITECTURE = 1 << 21, 1 << 20  # compute_100f, compute_90a
_MOST_ENTRIES = 100_000


@dataclass(frozen=True)
class GpuCode:
    """What a library holds for GPUs.

    Attributes:
        sass: Machine code, as nvcc names it: "sm_90", "sm_90a".
        ptx: Code that the driver compiles when it loads it: "compute_120".
    """

    sass: tuple[str, ...]
    ptx: tuple[str, ...]

    def runs_on(self, compute_capability: str) -> bool:
        """Whether a GPU can run any of it (CUDA programming guide, "Binary Compatibility")."""
        major, minor = (int(part) for part in compute_capability.split("."))
        return any(
            _serves(name, major, minor, later_majors=name.startswith("compute_"))
            for name in (*self.sass, *self.ptx)
        )


def read_gpu_code(path: Path) -> GpuCode:
    """List the GPUs that a shared library has code for; both lists are empty if for none.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not a shared library, or it is damaged.
    """
    found: dict[int, set[str]] = {_PTX: set(), _SASS: set()}
    with reading(path) as elf:
        for section in elf.iter_sections():
            if section.name in _SECTIONS:
                start = section["sh_offset"]
                for kind, name in _entries(elf.stream, start, start + section["sh_size"]):
                    found[kind].add(name)
    return GpuCode(_sorted(found[_SASS]), _sorted(found[_PTX]))


def _entries(stream: IO[bytes], at: int, end: int) -> Iterator[tuple[int, str]]:
    """Kind and architecture of every entry; only their headers are read.

    Raises:
        ValueError: it is no run of fat binaries.
        struct.error: one is cut off.
    """
    budget = _MOST_ENTRIES  # a damaged size can promise any number
    while at < end:
        magic, _, header, size = _unpack(_FATBIN, stream, at)
        if magic != _MAGIC:
            raise ValueError("no fat binary")
        entry = at + max(header, _FATBIN.size)
        at = entry + size
        while entry < at and (budget := budget - 1):
            kind, _, header, payload, architecture, flags = _unpack(_ENTRY, stream, entry)
            entry += max(header, _ENTRY.size) + payload
            suffix = "f" if flags & _FAMILY else "a" if flags & _ARCHITECTURE else ""
            if kind in (_PTX, _SASS):
                prefix = "sm" if kind == _SASS else "compute"
                yield kind, f"{prefix}_{architecture}{suffix}"
        if not budget:
            raise ValueError("more entries than a linker writes")
        at += -at % 8


def _unpack(layout: struct.Struct, stream: IO[bytes], at: int) -> tuple[Any, ...]:
    stream.seek(at)
    return layout.unpack(stream.read(layout.size))


def _serves(name: str, major: int, minor: int, *, later_majors: bool) -> bool:
    number, suffix = _parts(name)
    of_major, of_minor = divmod(number, 10)
    if suffix == "a":
        return (of_major, of_minor) == (major, minor)
    if suffix == "f":
        later_majors = False
    return (of_major == major and of_minor <= minor) or (later_majors and of_major < major)


def _parts(name: str) -> tuple[int, str]:
    found = re.fullmatch(r"\w+_(\d+)([af]?)", name)
    assert found is not None, name
    return int(found.group(1)), found.group(2)


def _sorted(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=_parts))
