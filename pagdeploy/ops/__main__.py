"""Rewrite the files that are generated from the op table, or check that they are fresh."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pagdeploy.errors import PagdeployError
from pagdeploy.files import replacing_file
from pagdeploy.ops import derive

GENERATED: Mapping[str, Callable[[], str]] = {
    "plugins/ops.inc": derive.plugin_fields,
    "docs/ops.md": derive.documentation,
}
"""The generated files, relative to the repository root."""


def stale(root: Path) -> list[str]:
    """The generated files that are missing or differ from what would be written now."""
    return [
        name
        for name, make in GENERATED.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != make()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if `--check` finds a stale file.

    Args:
        arguments: The command line, sys.argv by default.
    """
    parser = argparse.ArgumentParser(prog=derive.COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the repository, by default the current folder"
    )
    options = parser.parse_args(arguments)
    names = stale(options.root)
    if options.check:
        for name in names:
            print(f"{name} is stale; run `{derive.COMMAND}`")
        return 1 if names else 0
    try:
        for name in names:
            with replacing_file(options.root / name) as temporary:
                temporary.write_text(GENERATED[name](), encoding="utf-8")
            print(f"wrote {name}")
    except PagdeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
