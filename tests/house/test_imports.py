"""Who may import whom: the rooms, the third-party packages, and what may be slow to load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE_FOLDERS, REPOSITORY, imports_of, python_files, room_of

BASE = {"errors", "files"}
MIDDLE = BASE | {"precision", "ops", "graph", "passes", "pipeline", "check", "measure"}
MIDDLE |= {"report"}
MIDDLE |= {"manifest", "bundle"}
ENDS = {"exporters", "engines"}

# The rooms whose modules each room may import, besides its own.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "precision": {"errors"},
    "ops": BASE,
    "graph": BASE | {"ops"},
    "passes": BASE | {"precision", "ops", "graph"},
    "pipeline": BASE | {"precision", "ops", "graph", "passes"},
    "check": {"errors", "ops"},  # it is handed arrays and sessions
    "report": {"errors"},  # it is handed text and arrays
    "measure": BASE | {"ops"},
    "manifest": BASE,
    "bundle": BASE | {"manifest"},
    "exporters": BASE | {"ops"},  # front and back never meet: an ONNX file is all that crosses
    "engines": BASE | {"ops", "graph", "manifest", "bundle"},
    "examples": {"exporters", "check"},
    "verbs": MIDDLE | ENDS | {"examples", ""},
    "cli": MIDDLE | ENDS | {"verbs", "examples", ""},
    "": MIDDLE | ENDS | {"verbs", "cli"},  # pagdeploy/__init__.py and __main__.py
}

EVERYWHERE = set(ROOMS)

# The rooms that may import each third-party package. A new dependency needs a line here.
PACKAGES: dict[str, set[str]] = {
    "numpy": EVERYWHERE,
    "torch": {"exporters", "examples"},
    "torchvision": {"examples"},
    "safetensors": {"exporters", "examples"},
    "onnx": {"ops", "graph", "passes", "pipeline", "exporters", "engines", "verbs", "cli"},
    "google": {"graph", "engines"},  # protobuf, whose errors a damaged file raises
    "onnx_ir": {"graph", "passes", "pipeline", "exporters", "engines", "verbs"},
    "onnxscript": {"graph", "passes", "exporters"},
    "onnx_graphsurgeon": {"graph", "passes"},
    "onnxruntime": {"engines"},
    "tensorrt": {"engines"},
    "tensorrt_rtx": {"engines"},
    "polygraphy": {"engines", "check"},
    "packaging": {"engines", "verbs", "bundle"},
    "platformdirs": {"engines", "verbs"},
    "pydantic": {"manifest", "bundle"},
    "elftools": {"engines"},
    "typer": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"measure", "check", "cli", "verbs", "examples"},
    "PIL": {"verbs", "examples"},
    "skimage": {"verbs", "examples"},
}

# Slow to load: `pagdeploy --help` answers in under half a second.
HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "matplotlib"}
LIGHT_ROOMS = {"cli", "verbs", ""}
ONLY_IN_FUNCTIONS = {"matplotlib"}  # but in the examples, which nothing loads by the way


def import_faults(root: Path) -> list[str]:
    """What the installed Python files below `root` import against the rules."""
    return [
        f"{path.relative_to(root)}:{found.line}: {fault}"
        for path in python_files(root, *PACKAGE_FOLDERS)
        for found in imports_of(path)
        for fault in _faults(room_of(path, root), found.module, found.eager)
    ]


def _faults(room: str, module: str, eager: bool) -> list[str]:
    package, _, rest = module.partition(".")
    if module.startswith("."):
        return ["relative import"]
    if room not in ROOMS:
        return [f"the room {room!r} has no line in ROOMS"]
    if package in PACKAGE_FOLDERS[1:]:
        return [f"{module} loads a second copy; import pagdeploy.{module}"]
    if package == "pagdeploy":
        target = rest.partition(".")[0]
        if target.startswith("__"):
            target = ""
        if target not in ROOMS:
            return [f"pagdeploy.{target} is not a room"]
        allowed = target == room or target in ROOMS[room]
        return [] if allowed else [f"{room} may not import {target}"]
    if package in sys.stdlib_module_names:
        return []
    if package not in PACKAGES:
        return [f"the package {package} has no line in PACKAGES"]
    if room not in PACKAGES[package]:
        return [f"{room} may not import {package}"]
    slow = package in HEAVY and room in LIGHT_ROOMS
    slow |= package in ONLY_IN_FUNCTIONS and room != "examples"
    return [f"{package} must be imported inside a function"] if slow and eager else []


def cpp_faults(root: Path) -> list[str]:
    """Kernels and geometry that include a TensorRT header."""
    return [
        f"{path.relative_to(root)}:{number}: includes a TensorRT header"
        for path in sorted((root / "plugins").rglob("*"))
        if path.name.startswith("kernel") or path.name == "geometry.hpp"
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r'\s*#\s*include\s*[<"].*NvInfer', line)
    ]


def test_imports_follow_the_rooms():
    assert import_faults(REPOSITORY) == []


def test_kernels_know_no_tensorrt():
    assert cpp_faults(REPOSITORY) == []


def test_tests_use_installed_names():
    forbidden = re.compile(
        r"pagdeploy\.(tests|plugins|pagdeploy|docs|bench)\b|(exporters|engines|examples)\b"
    )
    faults = [
        f"{path.relative_to(REPOSITORY)}:{found.line}: {found.module}"
        for path in python_files(REPOSITORY, "tests", "bench")
        for found in imports_of(path)
        if forbidden.match(found.module)
    ]
    assert faults == []


def test_command_line_loads_nothing_heavy():
    code = f"import sys, pagdeploy.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("pagdeploy/passes/a.py", "import tensorrt", "passes may not import tensorrt"),
        ("pagdeploy/passes/a.py", "import onnxruntime as ort", "passes may not import onnxruntime"),
        ("pagdeploy/ops/a.py", "def f():\n    import torch", "ops may not import torch"),
        ("pagdeploy/ops/a.py", "from pagdeploy.graph import read", "ops may not import graph"),
        ("pagdeploy/ops/a.py", "from pagdeploy import graph", "ops may not import graph"),
        ("pagdeploy/ops/a.py", "import pagdeploy.cli.main", "ops may not import cli"),
        ("pagdeploy/errors.py", "import pagdeploy.files", "errors may not import files"),
        ("pagdeploy/graph/a.py", "from pagdeploy.passes import x", "graph may not import passes"),
        ("pagdeploy/verbs/a.py", "import pagdeploy.cli", "verbs may not import cli"),
        ("pagdeploy/verbs/a.py", "import typer", "verbs may not import typer"),
        ("pagdeploy/check/a.py", "from pagdeploy.engines import ort", "check may not import eng"),
        ("pagdeploy/bundle.py", "import pagdeploy.ops", "bundle may not import ops"),
        ("pagdeploy/graph/a.py", "from . import read", "relative import"),
        ("pagdeploy/graph/a.py", "from .read import load", "relative import"),
        ("pagdeploy/cli/a.py", "import onnx.parser", "onnx must be imported inside a function"),
        ("pagdeploy/verbs/a.py", "class A:\n    import onnx_ir", "onnx_ir must be imported inside"),
        ("pagdeploy/__init__.py", "import onnx", "may not import onnx"),
        ("pagdeploy/measure/a.py", "import matplotlib.pyplot", "matplotlib must be imported insi"),
        ("pagdeploy/rooms/a.py", "import json", "the room 'rooms' has no line in ROOMS"),
        ("pagdeploy/cli/a.py", "import pagdeploy.tests.x", "pagdeploy.tests is not a room"),
        ("pagdeploy/cli/a.py", "import pagdeploy.pagdeploy", "pagdeploy.pagdeploy is not a room"),
        ("pagdeploy/graph/a.py", "import scipy", "the package scipy has no line in PACKAGES"),
        ("exporters/a.py", "from pagdeploy.passes import x", "exporters may not import passes"),
        ("exporters/a.py", "import exporters.modules", "exporters.modules loads a second copy"),
        ("engines/a.py", "import pagdeploy.exporters", "engines may not import exporters"),
        ("engines/a.py", "import onnx_graphsurgeon", "engines may not import onnx_graphsurgeon"),
        ("examples/a.py", "import pagdeploy.verbs.build", "examples may not import verbs"),
    ],
)
def test_planted_import_is_found(tmp_path, file, line, fault):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f'"""Planted."""\n{line}\n')
    (found,) = import_faults(tmp_path)
    assert found.startswith(f"{file}:")
    assert fault in found


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("pagdeploy/cli/a.py", "def f():\n    import onnx"),
        (
            "pagdeploy/verbs/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import onnx",
        ),
        ("pagdeploy/passes/a.py", "import onnx_ir\nfrom pagdeploy.passes import other"),
        ("exporters/a.py", "import torch\nfrom pagdeploy.ops import OPS"),
    ],
)
def test_permitted_import_is_no_fault(tmp_path, file, line):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert import_faults(tmp_path) == []


@pytest.mark.parametrize("name", ["kernel.cu", "kernel.cuh", "kernel_wgmma.cu", "geometry.hpp"])
def test_planted_tensorrt_header_is_found(tmp_path, name):
    folder = tmp_path / "plugins" / "perforated_conv"
    folder.mkdir(parents=True)
    (folder / "plugin_v3.cpp").write_text("#include <NvInfer.h>\n")
    assert cpp_faults(tmp_path) == []
    (folder / name).write_text('#pragma once\n#include "NvInferRuntime.h"\n')
    fault = f"plugins/perforated_conv/{name}:2: includes a TensorRT header"
    assert cpp_faults(tmp_path) == [fault]
