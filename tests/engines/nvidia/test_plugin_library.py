"""Plugin libraries: where they are looked for, and what is wrong with those that are wrong."""

from __future__ import annotations

import importlib.resources
import platform
import struct
from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.driver import Gpu
from pagdeploy.engines.nvidia.fatbin import GpuCode
from pagdeploy.engines.nvidia.linker import Linker, system_linker
from pagdeploy.engines.nvidia.plugin_library import (
    find_plugin_library,
    library_name,
    obstacles,
    places,
    read_plugin_library,
    why_not_loadable,
)
from tests.engines.nvidia.toolbox import PLUGIN, compile_library, fatbin
from tests.plugins.conftest import plugin_library, wheels

HOPPER = Gpu(0, "NVIDIA H200", "9.0", 2**37, "GPU-0")
STATIC = (
    PLUGIN + "extern void* getPluginRegistry(void); void* r(void) { return getPluginRegistry(); }"
)


def ours(folder: Path, major: int = 10, source: str = PLUGIN, *flags: str) -> Path:
    return compile_library(folder / library_name(major), source, *flags)


def wrong(path: Path, *, major: int | None = 10, gpu: Gpu | None = None) -> list[str]:
    library = read_plugin_library(path)
    return [o.reason for o in obstacles(library, major=major, gpu=gpu, linker=system_linker({}))]


def test_a_library_is_described(tmp_path):
    path = ours(tmp_path, 11, PLUGIN + fatbin((2, 90, 0), (1, 120, 0)))
    library = read_plugin_library(path)
    assert library.tensorrt_major == 11 and library.machine == platform.machine()
    assert library.entry_points == ("getCreators", "setLoggerFinder")
    assert not library.registers_statically and "libc.so.6" in library.needed
    assert library.gpu_code == GpuCode(("sm_90",), ("compute_120",))
    assert wrong(path, major=11, gpu=HOPPER) == []


@pytest.mark.trt
@pytest.mark.parametrize("major", [8, 10, 11])
def test_our_own_library_is_as_it_must_be(major):
    path = plugin_library(major)
    library = read_plugin_library(path)
    assert library.tensorrt_major == major and not library.registers_statically
    entry = "getPluginCreators" if major == 8 else "getCreators"
    assert library.entry_points == (entry, "setLoggerFinder")
    assert library.gpu_code.sass and wrong(path, major=major) == []


def test_the_environment_comes_before_the_package(tmp_path, monkeypatch):
    first, second = ours(tmp_path / "1"), ours(tmp_path / "2")
    monkeypatch.setattr(importlib.resources, "files", lambda name: tmp_path / "package")
    assert list(places({})) == [tmp_path / "package/lib"]
    assert find_plugin_library(10, {}) is None
    packaged = ours(tmp_path / "package/lib")
    assert find_plugin_library(10, {}) == packaged
    listed = {"PAGDEPLOY_PLUGINS": f"{tmp_path / 'none'}:{tmp_path / '2'}:{tmp_path / '1'}"}
    assert find_plugin_library(10, listed) == second
    assert find_plugin_library(11, listed) is None
    monkeypatch.setenv("PAGDEPLOY_PLUGINS", str(tmp_path / "1"))
    assert find_plugin_library(10) == first


def test_a_file_is_known_by_its_soname(tmp_path):
    path = ours(tmp_path).rename(tmp_path / "renamed.so")
    listed = {"PAGDEPLOY_PLUGINS": str(path)}
    assert find_plugin_library(10, listed) == path
    assert find_plugin_library(11, listed) is None
    path.write_bytes(b"damaged")
    assert find_plugin_library(10, listed) is None


def test_the_library_that_registers_another_is_none_itself(tmp_path):
    path = compile_library(tmp_path / "libpagdeploy_plugins_autoreg_trt10.so")
    library = read_plugin_library(path)
    assert library.registers_another and library.tensorrt_major == 10
    assert wrong(path, gpu=HOPPER) == []
    assert find_plugin_library(10, {"PAGDEPLOY_PLUGINS": str(path)}) is None


def test_another_major_version_is_refused(tmp_path):
    path = ours(tmp_path, 10)
    assert wrong(path, major=None) == []
    assert wrong(path, major=11) == [f"{path} is built for TensorRT 10, and 11 is installed."]


@pytest.mark.parametrize(
    ("exported", "major", "lacking"),
    [
        (["getCreators", "setLoggerFinder"], 10, None),
        (["getPluginCreators", "setLoggerFinder"], 11, None),  # the old name is taken, too
        (["getPluginCreators"], 8, None),
        (["setLoggerFinder"], 10, "getCreators"),
        (["getCreators"], None, "setLoggerFinder"),
        (["getCreators", "setLoggerFinder"], 8, "getPluginCreators"),
        ([], 11, "getCreators and setLoggerFinder"),
    ],
)
def test_both_entry_points_must_be_exported(tmp_path, exported, major, lacking):
    source = "".join(f"void* {name}(void) {{ return 0; }}" for name in exported)
    path = compile_library(tmp_path / "libtheirs.so", source)
    sentence = (
        f"{path} does not export {lacking}, without which TensorRT's registry loads no library."
    )
    assert wrong(path, major=major) == ([sentence] if lacking else [])


LOAD = """
import sys
import tensorrt_lean_bindings as trt
print(trt.get_plugin_registry().load_library(sys.argv[1]) is not None)
"""


@pytest.mark.trt
@pytest.mark.parametrize("major", [10, 11])
@pytest.mark.parametrize("hidden", ["", "getCreators", "setLoggerFinder"])
def test_a_real_registry_agrees(tmp_path, child, major, hidden):
    content = plugin_library(major).read_bytes()
    path = tmp_path / library_name(major)
    if hidden:
        content = content.replace(hidden.encode(), hidden[:-1].encode() + b"_")
    path.write_bytes(content)
    loads = child(wheels(f"lean{major}"), LOAD, str(path)).strip()
    assert loads == str(why_not_loadable(path, major) is None) == str(not hidden)


def test_static_registration_is_refused_unless_it_stays_in_its_major(tmp_path):
    path = compile_library(tmp_path / "libtheirs.so", STATIC)
    (reason,) = wrong(path)
    assert "registers its plugins when it is loaded (it calls getPluginRegistry)" in reason
    runtime = compile_library(
        tmp_path / "libnvinfer.so.10", "void* getPluginRegistry(void) {return 0;}"
    )
    path = compile_library(tmp_path / "libtheirs.so", STATIC, str(runtime), "-Wl,-rpath,$ORIGIN")
    assert wrong(path, major=10) == []
    assert len(wrong(path, major=11)) == 1 and len(wrong(path, major=None)) == 1


def test_libraries_that_are_not_there_are_named(tmp_path):
    other = compile_library(tmp_path / "libother.so.3")
    path = ours(tmp_path, 10, PLUGIN, str(other))
    other.unlink()
    assert wrong(path) == [f"{path.name} needs libother.so.3, which cannot be found."]
    assert why_not_loadable(path, 10).remedy.startswith("Install the package that has libother")


def test_code_for_other_gpus_does_not_help(tmp_path):
    path = ours(tmp_path, 10, PLUGIN + fatbin((2, 80, 0)))
    library = read_plugin_library(path)
    assert wrong(path) == []  # nothing is known of a GPU
    (found,) = obstacles(library, major=10, gpu=HOPPER, linker=Linker(folders=(Path("/"),)))[-1:]
    assert found.reason == f"{path} has no code for NVIDIA H200 (compute capability 9.0)."
    assert "-DPAGDEPLOY_CUDA_ARCHITECTURES=90" in found.remedy


def test_another_processor_is_the_only_thing_said(tmp_path):
    path = ours(tmp_path)
    content = bytearray(path.read_bytes())
    other = (183, "aarch64") if platform.machine() == "x86_64" else (62, "x86_64")
    content[18:20] = struct.pack("<H", other[0])  # e_machine
    path.write_bytes(content)
    here = platform.machine()
    assert wrong(path, gpu=HOPPER) == [
        f"{path} is built for {other[1]}, and this machine is {here}."
    ]


def test_a_newer_glibc_is_named(tmp_path, monkeypatch):
    path = ours(tmp_path, 10, "#include <stdio.h>\n" + PLUGIN + 'int p(void) { return puts(""); }')
    needs = read_plugin_library(path).glibc
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.1"))
    assert wrong(path) == [f"{path} needs glibc {needs}, and 2.1 is here."]


def test_why_not_loadable_never_raises(tmp_path):
    assert why_not_loadable(ours(tmp_path), 10) is None
    assert (
        why_not_loadable(tmp_path / "none.so", 10).reason == f"There is no file {tmp_path}/none.so."
    )
    (tmp_path / "text.so").write_text("text")
    reason, remedy, _ = why_not_loadable(tmp_path / "text.so", 10)
    assert reason.endswith("is not a shared library.") and remedy
