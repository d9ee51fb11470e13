"""The repository as the house rules see it: its Python files, and which room each belongs to."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE_FOLDERS = ("pagdeploy", "exporters", "engines", "examples")
"""The top-level folders that are installed, the others as subpackages of the first."""


def python_files(root: Path, *folders: str) -> list[Path]:
    """The Python files below the folders that exist, sorted."""
    return sorted(
        path
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def room_of(path: Path, root: Path) -> str:
    """The room of an installed file: `pagdeploy/errors.py` is "errors", the package itself ""."""
    first, *rest = path.relative_to(root).parts
    if first != "pagdeploy":
        return first
    room = rest[0].removesuffix(".py")
    return "" if room in ("__init__", "__main__") else room


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module.

    Args:
        module: Its absolute name; with leading dots if the import is relative.
        line: Where the statement stands.
        eager: Whether importing the file executes it.
    """

    module: str
    line: int
    eager: bool


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in the file, those inside functions included."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), eager=True)


def _imports(node: ast.AST, eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, eager)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            # `from pagdeploy import graph` names a room only in its second half.
            whole = module != "pagdeploy"
            for name in {module} if whole else {f"pagdeploy.{a.name}" for a in child.names}:
                yield Import(name, child.lineno, eager)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _imports(child, eager and not lazy and not typing_only)
