"""Shared libraries: what cc wrote is what is read, and no damage gets further than a sentence."""

from __future__ import annotations

import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagdeploy.engines.nvidia.elf import is_elf, read_library
from pagdeploy.engines.nvidia.fatbin import read_gpu_code
from pagdeploy.errors import IncompatibleArtifact, UsageError
from tests.engines.nvidia.toolbox import compile_library, fatbin

SOURCE = """
#include <stdio.h>
extern int elsewhere(void);
extern int maybe(void) __attribute__((weak));
int shown(void) { return printf("%d", elsewhere()) + (maybe ? maybe() : 0); }
__attribute__((visibility("hidden"))) int hidden(void) { return 1; }
static int local(void) { return 2; }
int (*use)(void) = local;
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small library that needs another one; not to be changed."""
    folder = tmp_path_factory.mktemp("elf")
    other = compile_library(folder / "libother.so.3", "int elsewhere(void) { return 0; }")
    return compile_library(
        folder / "libsmall.so",
        SOURCE + fatbin((2, 90, 0), (1, 75, 0)),
        str(other),
        "-Wl,-rpath,$ORIGIN:/opt/x",
    )


def test_a_library_is_read_as_the_linker_sees_it(library):
    read = read_library(library)
    assert (read.machine, read.soname) == (machine(), "libsmall.so")
    assert read.needed == ("libother.so.3", "libc.so.6")
    assert read.runpath == ("$ORIGIN", "/opt/x")
    assert {"shown", "use"} <= read.exports and not {"hidden", "local"} & read.exports
    assert {"printf", "elsewhere"} <= read.undefined and "maybe" not in read.undefined
    assert read.newest("GLIBC_") in {v.removeprefix("GLIBC_") for v in read.versions["libc.so.6"]}


def machine() -> str:
    return subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_symbols_are_those_of_nm(library):
    def names(*flags: str) -> set[str]:
        command = ["nm", "-D", "--without-symbol-versions", *flags, str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return {line.split()[-1] for line in done.stdout.splitlines() if " w " not in line}

    read = read_library(library)
    assert read.exports == names("--defined-only")
    assert read.undefined == names("--undefined-only")


def test_symbols_may_be_left_out(library):
    read = read_library(library, symbols=False)
    assert read.exports == read.undefined == frozenset()
    assert read.needed == ("libother.so.3", "libc.so.6")


def test_versions_are_compared_as_numbers(library):
    read = read_library(library)
    versions = {"libc.so.6": ("GLIBC_2.9", "GLIBC_2.17", "GLIBC_PRIVATE", "GCC_9.9")}
    assert type(read)(**{**vars(read), "versions": versions}).newest("GLIBC_") == "2.17"
    assert type(read)(**{**vars(read), "versions": {}}).newest("GLIBC_") is None


def test_what_is_no_shared_library_is_refused(library, tmp_path):
    path = tmp_path / "x.so"
    assert not is_elf(path)
    with pytest.raises(UsageError, match="There is no file"):
        read_library(path)
    path.write_text("INPUT(libc.so.6)")  # a linker script
    assert not is_elf(path)
    with pytest.raises(IncompatibleArtifact, match=r"x\.so is not a shared library\. Give"):
        read_library(path)
    source = tmp_path / "x.c"
    source.write_text("int x;")
    subprocess.run(["cc", "-c", "-o", str(path), str(source)], check=True)
    assert is_elf(path)
    with pytest.raises(IncompatibleArtifact, match="is not a shared library, or it is damaged"):
        read_library(path)


HUGE = [b"\xff" * 8, (2**63 - 1).to_bytes(8, "little"), (2**31).to_bytes(8, "little"), bytes(8)]


@settings(
    max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_library_is_read_or_refused_soon_and_in_little_memory(library, tmp_path, data):
    content = bytearray(library.read_bytes())
    size = len(content)
    sections = int.from_bytes(content[40:48], "little")  # the table that a linker writes last
    place = st.one_of(
        st.integers(0, 64 + 56 * 12), st.integers(sections, size - 1), st.integers(0, size - 1)
    )
    for at in data.draw(st.lists(place, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    for at in data.draw(st.lists(place, max_size=2)):
        content[at : at + 8] = data.draw(st.sampled_from(HUGE))
    path = tmp_path / "damaged.so"
    path.write_bytes(content[: data.draw(st.one_of(st.just(size), st.integers(0, size)))])
    for read in (read_library, read_gpu_code):
        tracemalloc.start()
        try:
            read(path)
        except IncompatibleArtifact as problem:
            assert problem.message.startswith(f"{path} is not a shared library")
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2**25


def test_a_name_that_commands_a_terminal_is_refused(library, tmp_path):
    path = tmp_path / "x.so"
    path.write_bytes(library.read_bytes().replace(b"libother.so.3", b"lib\x1b[2Jer.so.3"))
    with pytest.raises(IncompatibleArtifact, match="or it is damaged"):
        read_library(path)
