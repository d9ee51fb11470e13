"""The road as its users start it, and what it has prepared."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from tests.house.tree import REPOSITORY

BENCH = REPOSITORY / "bench" / "gpu"


def road(*arguments, **environment):
    """Run tensorrt_road.py."""
    return subprocess.run(
        [sys.executable, str(BENCH / "tensorrt_road.py"), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def part(monkeypatch):
    """Import a module of the road as the script does."""
    monkeypatch.syspath_prepend(str(BENCH))
    return lambda name: importlib.import_module(f"road.{name}")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The tiny networks in half precision; not to be changed."""
    folder = tmp_path_factory.mktemp("road")
    done = road("prepare", "--out", folder, "--cases", "tiny", "--precisions", "fp16")
    assert done.returncode == 0, done.stderr
    return folder
