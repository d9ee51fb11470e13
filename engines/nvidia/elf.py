"""What a shared library exports, needs and leaves undefined, read without loading it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.engines.nvidia.versions import numbers
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import is_file

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"

# A damaged count can promise any number of entries; libnvinfer.so itself has 30,000 symbols.
_MOST_SECTIONS, _MOST_TAGS, _MOST_SYMBOLS, _MOST_VERSIONS = 4096, 4096, 200_000, 1024
_STRINGS = {
    "DT_SONAME": "soname",
    "DT_NEEDED": "needed",
    "DT_RPATH": "rpath",
    "DT_RUNPATH": "runpath",
}
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}  # as platform.machine() has them


@dataclass(frozen=True)
class SharedLibrary:
    """A shared library as the dynamic linker sees it.

    Attributes:
        machine: "x86_64" or "aarch64", or ELF's name of another one.
        soname: The name that others need it by, if it has one.
        needed: Sonames of the libraries that it needs, in order.
        runpath: Folders to look for them in before the system's; $ORIGIN is its own.
        versions: Versions of those libraries' symbols, {"libc.so.6": ("GLIBC_2.34", ...)}.
        exports: Symbols that it offers.
        undefined: Symbols that others must offer, weak ones not among them.
    """

    machine: str
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    exports: frozenset[str]
    undefined: frozenset[str]

    def newest(self, prefix: str) -> str | None:
        """The newest version with a prefix, "GLIBC_": the oldest system that will do."""
        found = [
            version.removeprefix(prefix)
            for versions in self.versions.values()
            for version in versions
            if version.startswith(prefix) and version.removeprefix(prefix)[:1].isdigit()
        ]
        return max(found, key=numbers, default=None)


def is_elf(path: Path) -> bool:
    """Whether a file begins like an ELF file; it may be damaged."""
    if not is_file(path):
        return False
    with path.open("rb") as stream:
        return stream.read(4) == MAGIC


def read_library(path: Path, *, symbols: bool = True) -> SharedLibrary:
    """Read a shared library; without `symbols`, exports and undefined stay empty and it is quick.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not a shared library, or it is damaged.
    """
    with reading(path) as elf:
        soname, needed, runpath = _dynamic(elf)
        exports, undefined = _symbols(elf) if symbols else (frozenset[str](), frozenset[str]())
        machine = str(elf["e_machine"])
        return SharedLibrary(
            machine=_MACHINES.get(machine, machine),
            soname=soname,
            needed=needed,
            runpath=runpath,
            versions=_versions(elf),
            exports=exports,
            undefined=undefined,
        )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[ELFFile]:
    """An ELF file with a bounded number of sections; whatever fails inside is one sentence.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is no ELF file, no shared library, or damaged.
    """
    from elftools.elf.elffile import ELFFile

    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    with path.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise IncompatibleArtifact(
                f"{path} is not a shared library.", remedy="Give a .so file of Linux."
            )
        stream.seek(0)
        try:
            elf = ELFFile(stream)
            if elf["e_type"] != "ET_DYN":
                raise ValueError("no shared library")
            if max(elf.num_sections(), elf.num_segments()) > _MOST_SECTIONS:
                raise ValueError("more sections than a linker writes")
            yield elf
        except Exception:  # pyelftools and construct raise a dozen types on damaged bytes
            raise IncompatibleArtifact(
                f"{path} is not a shared library, or it is damaged.",
                remedy="Build it again, or copy it again if it was copied.",
            ) from None


def _dynamic(elf: ELFFile) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Soname, needed libraries and folders, from the segment that the dynamic linker reads."""
    from elftools.elf.dynamic import DynamicSegment

    segment = next(s for s in elf.iter_segments() if isinstance(s, DynamicSegment))
    found: dict[str, list[str]] = {name: [] for name in _STRINGS.values()}
    for number in range(_MOST_TAGS):
        tag = segment.get_tag(number)
        kind = tag.entry.d_tag
        if kind == "DT_NULL":
            folders = ":".join(found["rpath"] + found["runpath"]).split(":")
            runpath = tuple(folder for folder in folders if folder)
            return next(iter(found["soname"]), None), tuple(found["needed"]), runpath
        if kind in _STRINGS:
            found[_STRINGS[kind]].append(_printable(getattr(tag, _STRINGS[kind])))
    raise ValueError("the dynamic section has no end")


def _symbols(elf: ELFFile) -> tuple[frozenset[str], frozenset[str]]:
    from elftools.elf.sections import SymbolTableSection

    table = elf.get_section_by_name(".dynsym")
    if not isinstance(table, SymbolTableSection) or table.num_symbols() > _MOST_SYMBOLS:
        raise ValueError("no table of dynamic symbols")
    exports, undefined = set(), set()
    for number in range(1, table.num_symbols()):
        symbol = table.get_symbol(number)
        binding = symbol["st_info"]["bind"]
        if symbol["st_shndx"] != "SHN_UNDEF":
            if binding != "STB_LOCAL" and symbol["st_other"]["visibility"] == "STV_DEFAULT":
                exports.add(symbol.name)
        elif binding == "STB_GLOBAL":
            undefined.add(symbol.name)
    return frozenset(exports), frozenset(undefined)


def _versions(elf: ELFFile) -> dict[str, tuple[str, ...]]:
    from elftools.elf.gnuversions import GNUVerNeedSection

    found: dict[str, tuple[str, ...]] = {}
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for version, auxiliaries in itertools.islice(section.iter_versions(), _MOST_VERSIONS):
                few = itertools.islice(auxiliaries, _MOST_VERSIONS)
                found[_printable(version.name)] = tuple(_printable(one.name) for one in few)
    return found


def _printable(name: object) -> str:
    """A name that is shown; control characters in it would command the terminal."""
    text = str(name)
    if not text.isprintable():
        raise ValueError("a name that cannot be shown")
    return text
