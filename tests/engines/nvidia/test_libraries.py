"""NVIDIA's libraries on a machine that the test furnishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.libraries import (
    Consumer,
    bindings,
    find_libraries,
    installed_version,
    is_nvidias,
    read_consumer,
    winner,
)
from pagdeploy.engines.nvidia.linker import Linker
from tests.engines.nvidia.toolbox import compile_library
from tests.plugins.conftest import wheels


def install(site: Path, name: str, version: str, *files: str) -> list[Path]:
    """A Python package with shared libraries, as pip would leave it."""
    paths = [compile_library(site / file) for file in files]
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return paths


def test_libraries_of_packages_have_the_version_of_the_package(tmp_path):
    (path,) = install(
        tmp_path, "tensorrt_cu13_libs", "10.16.1.11", "tensorrt_libs/libnvinfer.so.10"
    )
    install(tmp_path, "other", "1.0", "other/libnvinfer.so.9")
    (found,) = find_libraries([tmp_path], Linker())
    assert (found.soname, found.path, found.version, found.origin) == (
        "libnvinfer.so.10", path, "10.16.1.11", "tensorrt_cu13_libs",
    )  # fmt: skip
    assert found.from_package
    assert installed_version("tensorrt", [found]) == "10.16.1.11"
    assert installed_version("tensorrt-rtx", [found]) is None


def test_libraries_of_folders_have_the_version_of_the_file(tmp_path):
    real = compile_library(tmp_path / "system/libnvinfer.so.10.13.3")
    (tmp_path / "system/libnvinfer.so.10").symlink_to(real.name)
    (tmp_path / "system/libnvinfer.so").write_text("INPUT(libnvinfer.so.10)")
    compile_library(tmp_path / "mine/libcudart.so.13")
    (tmp_path / "mine/libnvidia-ml.so.1").write_text("of the driver")
    linker = Linker(environment=(tmp_path / "mine", Path("/none")), folders=(tmp_path / "system",))
    found = {library.path.name: library for library in find_libraries([], linker)}
    assert {name: (lib.version, lib.origin) for name, lib in found.items()} == {
        "libcudart.so.13": ("13", "LD_LIBRARY_PATH"),
        "libnvinfer.so.10": ("10.13.3", "system"),
    }


def test_tensorrt_tells_its_version_in_a_symbol(tmp_path):
    compile_library(tmp_path / "libtensorrt_rtx.so.1", "char tensorrt_version_1_7_1_116;")
    found = find_libraries([], Linker(folders=(tmp_path,)))
    assert installed_version("tensorrt-rtx", found) == "1.7.1.116"


def test_python_takes_its_package_and_others_what_the_linker_finds(tmp_path):
    (packaged,) = install(
        tmp_path / "site", "tensorrt_libs", "10.16.1.11", "tensorrt_libs/libnvinfer.so.10"
    )
    system = compile_library(tmp_path / "system/libnvinfer.so.10")
    linker = Linker(folders=(tmp_path / "system",))
    found = find_libraries([tmp_path / "site"], linker)
    assert [library.path for library in found] == [packaged, system]
    assert winner("libnvinfer.so.10", found, linker) == packaged
    assert linker.find("libnvinfer.so.10") == system
    assert winner("libnvinfer.so.10", [], linker) == system


def test_what_a_provider_lacks(tmp_path):
    for name in ("libcudart.so.13", "libcublas.so.13", "libnvinfer.so.10", "libmine.so.1"):
        compile_library(tmp_path / "link" / name)
    needs = [str(path) for path in sorted((tmp_path / "link").iterdir())]
    provider = compile_library(tmp_path / "libonnxruntime_providers_cuda.so", "", *needs)
    install(tmp_path / "site", "nvidia-cuda-runtime", "13.0.88", "nvidia/cu13/lib/libcudart.so.13")
    found = find_libraries([tmp_path / "site"], Linker())
    assert read_consumer(provider, found, Linker()) == Consumer(
        provider,
        needs=("libcublas.so.13", "libcudart.so.13", "libnvinfer.so.10"),
        lacks=("libcublas.so.13", "libnvinfer.so.10"),
    )
    complete = Linker(environment=(tmp_path / "link",))
    assert read_consumer(provider, found, complete).lacks == ()


@pytest.mark.parametrize(
    "name", ["libnvinfer_builder_resource.so.10.16.1", "libcudnn_ops.so.9", "libnvrtc.so.13"]
)
def test_names_that_are_nvidias(name):
    assert is_nvidias(name)


@pytest.mark.parametrize("name", ["libnvme.so.1", "libcuda.so.1", "libc.so.6", "libcudart.a"])
def test_names_that_are_not(name):
    assert not is_nvidias(name)


@pytest.mark.trt
@pytest.mark.parametrize(
    ("runtime", "soname", "version"),
    [
        ("lean10", "libnvinfer_lean.so.10", "10.16.1.11"),
        ("lean11", "libnvinfer_lean.so.11", "11.4.0.106"),
        ("rtx", "libtensorrt_rtx.so.1", "1.7.1.116"),
    ],
)
def test_real_runtimes_are_found_with_their_version(runtime, soname, version):
    site = [wheels(runtime)]
    found = find_libraries(site, Linker())
    assert {lib.soname: lib.version for lib in found}[soname] == version
    (module,) = bindings(site)
    assert read_consumer(module, found, Linker()).lacks == ()
    assert soname in read_consumer(module, [], Linker()).lacks
