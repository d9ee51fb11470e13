"""mypy, strict, finds no fault in the package as it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.house.tree import PACKAGE_FOLDERS, REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed"),
]


def link_tree(folder):
    """Make `folder/pagdeploy` out of links, because mypy does not know the wheel's mapping."""
    package = folder / "pagdeploy"
    package.mkdir()
    for source in sorted((REPOSITORY / "pagdeploy").iterdir()):
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    for name in PACKAGE_FOLDERS[1:]:
        (package / name).symlink_to(REPOSITORY / name)
    return package


def mypy(folder):
    """The exit code and the output of mypy on the package in `folder`."""
    config = ["--config-file", str(REPOSITORY / "pyproject.toml")]
    cache = ["--cache-dir", str(REPOSITORY / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", "-p", "pagdeploy", *config, *cache]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_package_is_typed(tmp_path):
    link_tree(tmp_path)
    code, output = mypy(tmp_path)
    assert code == 0, output


def test_planted_type_error_is_found(tmp_path):
    package = link_tree(tmp_path)
    (package / "planted.py").write_text('"""Planted."""\n\nvalue: int = "text"\n')
    code, output = mypy(tmp_path)
    assert code == 1
    assert (
        'planted.py:3: error: Incompatible types in assignment (expression has type "str"' in output
    )
