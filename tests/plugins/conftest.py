"""Where tests find TensorRT runtimes and the built plugin library; none of them is required."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def wheels(name: str) -> Path:
    """Return the folder of a runtime that install_wheels.py made, or skip."""
    given = os.environ.get("PAGDEPLOY_TENSORRT_WHEELS")
    folder = (Path(given) if given else ROOT / "build" / "tensorrt-wheels") / name
    if not folder.is_dir():
        pytest.skip(f"no TensorRT runtime '{name}': run tests/plugins/install_wheels.py")
    return folder


def plugin_library(major: int, kind: str = "plugins") -> Path:
    """Return the newest library of a kind built for that major version of TensorRT, or skip."""
    name = f"libpagdeploy_{kind}_trt{major}.so"
    given = os.environ.get("PAGDEPLOY_PLUGINS")
    found = list((Path(given) if given else ROOT / "build").glob(f"**/{name}"))
    if not found:
        pytest.skip(f"no {name} below build/: needs nvcc and TensorRT headers")
    return max(found, key=lambda path: path.stat().st_mtime)


Child = Callable[..., str]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Run a program with a runtime's folder on the path; TensorRT may end a process."""

    def run(folder: Path, program: str, *arguments: str) -> str:
        script = tmp_path / "child.py"
        script.write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
