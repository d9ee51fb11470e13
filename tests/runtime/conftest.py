"""The installed wheel and the built examples that the tests of this folder share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def checked(*command: object, **environment: str) -> str:
    """What a command prints; a failure shows it."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def header_root() -> str:
    """Where onnxruntime's headers are, or a skip."""
    for root in (os.environ.get("ONNXRUNTIME_ROOT"), ROOT / "build/ort-headers/usr", "/usr"):
        if root and list(Path(root).glob("include/**/onnxruntime_c_api.h")):
            return str(root)
    pytest.skip("no onnxruntime headers: set ONNXRUNTIME_ROOT")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with native parts, installed into a folder of its own: the CMake prefix in it."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    root = header_root()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT]
    if importlib.util.find_spec("scikit_build_core"):
        command.append("--no-build-isolation")
    checked(
        *command,
        PAGDEPLOY_BUILD_PLUGINS="1",
        SKBUILD_CMAKE_DEFINE="PAGDEPLOY_CUDA=OFF;PAGDEPLOY_TENSORRT=OFF",
        ONNXRUNTIME_ROOT=root,
    )
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    checked(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    if not (site / "pagdeploy/lib/libpagdeploy_runtime.so").is_file():
        pytest.skip("the wheel has no C++ runtime: no nlohmann-json (Debian: nlohmann-json3-dev)")
    # -S, and without this folder: neither an editable installation nor the checkout is to answer.
    code = "import sys; del sys.path[0]; import pagdeploy; print(pagdeploy.cmake_prefix())"
    prefix = checked(sys.executable, "-S", "-c", code, PYTHONPATH=str(site)).strip()
    assert Path(prefix) == site / "pagdeploy"
    return Path(prefix)


@pytest.fixture(scope="session")
def examples(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the examples, built from the installed wheel in an empty folder."""
    from tests.runtime.make_bundles import onnxruntime_library

    build = tmp_path_factory.mktemp("examples")
    checked(
        "cmake",
        "-S", installed / "share/pagdeploy/examples",
        "-B", build,
        f"-DCMAKE_PREFIX_PATH={installed}",
        f"-DONNXRUNTIME_ROOT={header_root()}",
        f"-DONNXRUNTIME_LIBRARY={onnxruntime_library()}",
    )  # fmt: skip
    checked("cmake", "--build", build)
    return build
