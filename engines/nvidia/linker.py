"""Where the dynamic linker looks for libraries, and whether it would find one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pagdeploy.engines.nvidia.elf import SharedLibrary, read_library
from pagdeploy.errors import PagdeployError

_DEFAULTS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_DEEPEST = 8  # libraries that need libraries


@dataclass(frozen=True)
class Linker:
    """The dynamic linker's search (ld.so(8)).

    Attributes:
        loaded: What this process has loaded: paths by file name. Nothing else is searched for it.
        environment: Folders of LD_LIBRARY_PATH.
        cache: What ldconfig knows: paths by soname.
        folders: The system's own.
    """

    loaded: Mapping[str, Path] = field(default_factory=dict)
    environment: tuple[Path, ...] = ()
    cache: Mapping[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    def find(
        self, soname: str, owner: Path | None = None, runpath: Sequence[str] = ()
    ) -> Path | None:
        """The file that a soname leads to, or None.

        Args:
            soname: As in DT_NEEDED.
            owner: The library that needs it, for $ORIGIN.
            runpath: Its own folders.
        """
        if soname in self.loaded:
            return self.loaded[soname]
        origin = str(owner.resolve().parent) if owner else ""
        own = [
            Path(folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin))
            for folder in runpath
        ]
        for folder in (*self.environment, *own):
            if (folder / soname).is_file():
                return folder / soname
        if soname in self.cache:
            return self.cache[soname]
        return next((f / soname for f in self.folders if (f / soname).is_file()), None)

    def missing(self, path: Path, library: SharedLibrary) -> dict[str, str]:
        """What cannot be found, by soname, with the name of the library that needs it.

        Libraries that were found are asked in turn for what they need.
        """
        lacking: dict[str, str] = {}
        known: set[str] = set()
        queue = [(path, library)]
        for _ in range(_DEEPEST):
            found: list[tuple[Path, SharedLibrary]] = []
            for owner, needs in queue:
                for soname in needs.needed:
                    if soname in known:
                        continue
                    known.add(soname)
                    there = self.find(soname, owner, needs.runpath)
                    if there is None:
                        lacking[soname] = owner.name
                        continue
                    try:
                        found.append((there, read_library(there, symbols=False)))
                    except PagdeployError:
                        lacking[soname] = owner.name
            queue = found
        return lacking


def system_linker(environment: Mapping[str, str] | None = None) -> Linker:
    """The dynamic linker of this machine, with the LD_LIBRARY_PATH of an environment."""
    given = os.environ if environment is None else environment
    folders = [Path(entry) for entry in given.get("LD_LIBRARY_PATH", "").split(":") if entry]
    defaults = [Path(root, triplet) for root in ("/lib", "/usr/lib") for triplet in _TRIPLETS]
    return Linker(
        loaded=_loaded(),
        environment=tuple(folders),
        cache=_cache(),
        folders=(*defaults, *map(Path, _DEFAULTS)),
    )


def _loaded() -> dict[str, Path]:
    """The libraries of this process; Linux tells them in /proc."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    paths = (Path(line.split(maxsplit=5)[-1]) for line in lines if ".so" in line)
    return {path.name: path for path in paths}


def _cache() -> dict[str, Path]:
    """What "ldconfig -p" lists for 64-bit programs; the first entry of a name is the one taken."""
    path = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if path is None:
        return {}
    try:
        done = subprocess.run([path, "-p"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        entry = re.match(r"\s+(\S+) \(([^)]*)\) => (.+)$", line)
        if entry and ("x86-64" in entry.group(2) or "AArch64" in entry.group(2)):
            found.setdefault(entry.group(1), Path(entry.group(3)))
    return found
