"""The dynamic linker's search, checked against the dynamic linker."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.elf import read_library
from pagdeploy.engines.nvidia.linker import Linker, system_linker
from tests.engines.nvidia.toolbox import compile_library


def needing(path: Path, *names: str, runpath: str = "") -> Path:
    """A library that needs others, which lie in its folder when it is linked."""
    flags = [str(path.parent / name) for name in names]
    return compile_library(path, "", *flags, *([f"-Wl,-rpath,{runpath}"] if runpath else []))


def dlopen(path: Path, **environment: str) -> bool:
    """Whether a fresh process can load a library."""
    code = f"import ctypes; ctypes.CDLL({str(path)!r})"
    env = {**os.environ, **environment}
    return (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode == 0
    )


def test_folders_are_searched_in_the_order_of_the_linker(tmp_path):
    first, second, own = (compile_library(tmp_path / n / "libx.so.1") for n in ("1", "2", "own"))
    linker = Linker(environment=(tmp_path / "1",), folders=(tmp_path / "2",))
    assert linker.find("libx.so.1") == first
    assert Linker(folders=(tmp_path / "2",)).find("libx.so.1") == second
    assert Linker(folders=(tmp_path / "2",)).find("libx.so.1", own, ["$ORIGIN"]) == own
    cached = Linker(cache={"libx.so.1": own}, folders=(tmp_path / "2",))
    assert cached.find("libx.so.1") == own
    loaded = Linker(loaded={"libx.so.1": own}, environment=(tmp_path / "1",))
    assert loaded.find("libx.so.1") == own
    assert linker.find("liby.so.1") is None


@pytest.mark.parametrize("runpath", ["", "$ORIGIN", "${ORIGIN}"])
def test_what_is_missing_is_what_dlopen_misses(tmp_path, runpath):
    compile_library(tmp_path / "libleaf.so.1")
    path = needing(tmp_path / "libtop.so", "libleaf.so.1", runpath=runpath)
    missing = system_linker({}).missing(path, read_library(path))
    assert missing == ({} if runpath else {"libleaf.so.1": "libtop.so"})
    assert dlopen(path) == (not missing)
    folder = {"LD_LIBRARY_PATH": str(tmp_path)}
    assert system_linker(folder).missing(path, read_library(path)) == {}
    assert dlopen(path, **folder)


def test_what_others_miss_is_found_out_too(tmp_path):
    leaf = compile_library(tmp_path / "libleaf.so.1")
    needing(tmp_path / "libmiddle.so.1", "libleaf.so.1")
    path = needing(tmp_path / "libtop.so", "libmiddle.so.1", runpath="$ORIGIN")
    leaf.rename(tmp_path / "elsewhere.so")
    assert not dlopen(path)
    missing = system_linker({}).missing(path, read_library(path))
    assert missing == {"libleaf.so.1": "libmiddle.so.1"}


def test_a_damaged_library_counts_as_missing(tmp_path):
    leaf = compile_library(tmp_path / "libleaf.so.1")
    path = needing(tmp_path / "libtop.so", "libleaf.so.1", runpath="$ORIGIN")
    leaf.write_bytes(b"\x7fELF damaged")
    assert system_linker({}).missing(path, read_library(path)) == {"libleaf.so.1": "libtop.so"}
    assert not dlopen(path)


def test_libraries_that_need_each_other_come_to_an_end(tmp_path):
    compile_library(tmp_path / "libb.so.1")
    needing(tmp_path / "liba.so.1", "libb.so.1", runpath="$ORIGIN")
    needing(tmp_path / "libb.so.1", "liba.so.1", runpath="$ORIGIN")
    path = tmp_path / "liba.so.1"
    assert system_linker({}).missing(path, read_library(path)) == {}


def test_what_the_process_has_loaded_is_there(tmp_path):
    path = compile_library(tmp_path / "libloaded.so.7")
    assert system_linker({}).find("libloaded.so.7") is None
    keep = ctypes.CDLL(str(path))
    assert system_linker({}).find("libloaded.so.7") == path
    del keep


def test_this_system_has_its_c_library():
    assert system_linker({}).find("libc.so.6") is not None
