"""Style that a tool can check: lint, format, docstrings, and nothing of one machine."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE_FOLDERS, REPOSITORY, python_files

SOFT_CAP = 300
TEXT = {".py", ".md", ".toml", ".cpp", ".hpp", ".h", ".cu", ".cuh", ".inc", ".txt", ".cmake", ".sh"}
CODE = (*PACKAGE_FOLDERS, "tests", "bench", "plugins")
MACHINE_PATH = re.compile(r"(?<![\w./~<>$}-])/(?:home|root|tmp|work|mnt|Users)/\w")

needs_ruff = pytest.mark.skipif(
    importlib.util.find_spec("ruff") is None, reason="ruff is not installed"
)


@needs_ruff
@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def machine_paths(root: Path) -> list[str]:
    """Lines of text files below the code and docs folders that name a path of one machine."""
    files = [
        path
        for folder in (*CODE, "docs")
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in TEXT and path.is_file()
    ]
    files += [path for path in sorted(root.glob("*")) if path.suffix in TEXT and path.is_file()]
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]


def undocumented(root: Path) -> list[str]:
    """Modules without a docstring, and public functions and classes of the package without."""
    faults = []
    for path in python_files(root, *CODE):
        name = str(path.relative_to(root))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not (ast.get_docstring(tree) or "").strip():
            faults.append(f"{name}: the module has no docstring")
        if name.startswith(PACKAGE_FOLDERS) and not path.stem.startswith("_"):
            faults += [
                f"{name}:{node.lineno}: {node.name} has no docstring"
                for node in tree.body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                if not node.name.startswith("_") and not ast.get_docstring(node)
            ]
    return faults


def test_no_path_of_one_machine():
    assert machine_paths(REPOSITORY) == []


def test_everything_public_is_documented():
    assert undocumented(REPOSITORY) == []


def test_report_of_long_files(capsys):
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(REPOSITORY, *CODE)
    }
    assert len(lengths) > 10, "the report covers the repository"
    with capsys.disabled():  # a report, not a gate
        for name, length in sorted(lengths.items()):
            if length > SOFT_CAP:
                print(f"\n{name} has {length} lines, more than {SOFT_CAP}", end="")


@pytest.mark.parametrize("folder", ["home", "root", "tmp", "work", "Users"])
def test_planted_machine_path_is_found(tmp_path, folder):
    (tmp_path / "docs").mkdir()
    text = f"good: tmp/x, a/{folder}/b, https://host/{folder}/x\nbad: /{folder}/somebody\n"
    (tmp_path / "docs" / "page.md").write_text(text)
    assert machine_paths(tmp_path) == [f"docs/page.md:2: bad: /{folder}/somebody"]


def test_planted_missing_docstrings_are_found(tmp_path):
    (tmp_path / "pagdeploy").mkdir()
    (tmp_path / "pagdeploy" / "planted.py").write_text(
        "def public(): ...\ndef _private(): ...\nclass Public: ...\n"
    )
    assert undocumented(tmp_path) == [
        "pagdeploy/planted.py: the module has no docstring",
        "pagdeploy/planted.py:1: public has no docstring",
        "pagdeploy/planted.py:3: Public has no docstring",
    ]
