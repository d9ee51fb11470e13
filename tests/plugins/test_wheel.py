"""What a wheel holds: pure Python by default, the plugin library where it is asked for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel of the checkout and return its path."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    if importlib.util.find_spec("scikit_build_core"):
        command.append("--no-build-isolation")
    done = subprocess.run(
        [*command, str(ROOT)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_default_wheel_is_pure_python(tmp_path: Path) -> None:
    built = wheel(tmp_path, PAGDEPLOY_BUILD_PLUGINS="0")
    assert built.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(built).namelist()
    assert "pagdeploy/__init__.py" in names
    assert not [name for name in names if name.endswith((".so", ".hpp", ".cmake"))]


def test_wheel_with_plugins_holds_the_library(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    if not (os.environ.get("TensorRT_ROOT") or os.environ.get("TRT_ROOT")):
        pytest.skip("no TensorRT headers: set TensorRT_ROOT")
    built = wheel(
        tmp_path,
        PAGDEPLOY_BUILD_PLUGINS="1",
        SKBUILD_CMAKE_DEFINE="PAGDEPLOY_CUDA_ARCHITECTURES=90",  # one GPU is enough to see it
    )
    assert built.name.split("-")[2:4] == ["py3", "none"]
    assert not built.name.endswith("-any.whl")
    names = zipfile.ZipFile(built).namelist()
    libraries = sorted(name for name in names if "plugins" in name and name.endswith(".so"))
    assert len(libraries) == 2
    assert libraries[0].startswith("pagdeploy/lib/libpagdeploy_plugins_autoreg_trt")
    assert libraries[1].startswith("pagdeploy/lib/libpagdeploy_plugins_trt")
    assert "pagdeploy/lib/cmake/pagdeploy/pagdeployConfig.cmake" in names
    assert "pagdeploy/include/pagdeploy/common/op_attributes.hpp" in names


def test_wheel_without_cuda_holds_the_onnxruntime_ops(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    if not os.environ.get("ONNXRUNTIME_ROOT"):
        pytest.skip("no onnxruntime headers: set ONNXRUNTIME_ROOT")
    built = wheel(tmp_path, PAGDEPLOY_BUILD_PLUGINS="1", SKBUILD_CMAKE_DEFINE="PAGDEPLOY_CUDA=OFF")
    assert not built.name.endswith("-any.whl")
    names = zipfile.ZipFile(built).namelist()
    libraries = {Path(name).name for name in names if name.endswith(".so")}
    runtime = {"libpagdeploy_runtime.so", "libpagdeploy_backend_onnxruntime.so"}
    assert libraries - runtime == {"libpagdeploy_ort.so"}
    if libraries & runtime:  # which needs nlohmann-json
        assert runtime <= libraries
        assert "pagdeploy/include/pagdeploy/pagdeploy.h" in names
