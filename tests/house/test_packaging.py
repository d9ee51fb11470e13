"""The folders of the repository install as one package, and under no other name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.house.tree import PACKAGE_FOLDERS, REPOSITORY, python_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
TABLE = PYPROJECT["tool"]["scikit-build"]["wheel"]["packages"]


def package_names():
    """The dotted name of every folder that holds Python files and is installed."""
    folders = {path.parent for path in python_files(REPOSITORY, *PACKAGE_FOLDERS)}
    for folder in sorted(folders):
        parts = folder.relative_to(REPOSITORY).parts
        yield ".".join(parts if parts[0] == "pagdeploy" else ("pagdeploy", *parts)), folder


PACKAGES = dict(package_names())


def test_table_names_every_installed_folder():
    assert tuple(TABLE.values()) == PACKAGE_FOLDERS
    for target, source in TABLE.items():  # an editable install works only if these are equal
        assert target.rpartition("/")[2] == source
        assert target in ("pagdeploy", f"pagdeploy/{source}")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_reachable(name):
    assert (PACKAGES[name] / "__init__.py").is_file(), "a folder of modules needs an __init__.py"
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None, "found as a namespace, not as the package"
    assert spec.origin.endswith("__init__.py")


@pytest.mark.parametrize("name", PACKAGE_FOLDERS[1:])
def test_second_copy_refuses_to_load(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"ImportError: import pagdeploy.{name}, not {name}" in done.stderr


@pytest.mark.parametrize("name", PACKAGE_FOLDERS[1:])
def test_linter_bans_the_second_name(name):
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert f"pagdeploy.{name}" in banned[name]["msg"]


def test_every_dependency_has_its_line():
    text = (REPOSITORY / "docs/dependencies.md").read_text(encoding="utf-8")
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {entry.split(">")[0].split("[")[0].strip() for entry in wanted} - {"pagdeploy"}
    assert sorted(name for name in names if name not in text) == []
