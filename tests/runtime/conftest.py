"""The installed wheel and the built examples that the tests of this folder share."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OK, USAGE, INCOMPATIBLE = 0, 2, 4
Verdict = tuple[int, str]  # the exit code, and the message

# In a process of its own, which no bundle may end.
OPEN_BUNDLES = """
import ctypes, json, sys

class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("backend_directory", ctypes.c_char_p),
                ("runtime_library", ctypes.c_char_p), ("device", ctypes.c_int32),
                ("threads", ctypes.c_int32), ("allow_host_code", ctypes.c_int32),
                ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p)]

runtime, onnxruntime, loads, *bundles = sys.argv[1:]
library = ctypes.CDLL(runtime)
library.pag_message.restype = ctypes.c_char_p
options = Options(ctypes.sizeof(Options), None, onnxruntime.encode(), 0, 1, 0)
seen = []
for path in bundles:
    bundle, engine = ctypes.c_void_p(), ctypes.c_void_p()
    status = library.pag_bundle_open(path.encode(), ctypes.byref(bundle))
    if status == 0 and loads == "load":
        status = library.pag_engine_create(bundle, ctypes.byref(options), ctypes.byref(engine))
    seen.append((status, library.pag_message().decode() if status else ""))
    library.pag_engine_release(engine)
    library.pag_bundle_release(bundle)
print(json.dumps(seen))
"""


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


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The runtime's library below build/, or where PAGDEPLOY_RUNTIME says, or a skip."""
    given = os.environ.get("PAGDEPLOY_RUNTIME")
    found = list((Path(given) if given else ROOT / "build").glob("**/libpagdeploy_runtime.so"))
    if not found:
        pytest.skip("the C++ runtime is not built: make test-native")
    return max(found, key=lambda path: path.stat().st_mtime)


def ask_cpp(runtime: Path, *bundles: Path, loads: bool = False) -> list[Verdict]:
    """What the C++ runtime says of bundles; `loads`: of their engines, too."""
    from tests.runtime.make_bundles import onnxruntime_library

    how = "load" if loads else "open"
    library = onnxruntime_library() if loads else ""
    seen = checked(sys.executable, "-c", OPEN_BUNDLES, runtime, library, how, *bundles)
    return [(status, message) for status, message in json.loads(seen)]


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
