"""The schema of manifests that the C++ runtime is compiled with: manifest_schema.py [--write]

It is made of `pagdeploy.manifest`, so that both readers of bundles hold them to one description.
Without --write, exits 1 if the file in the runtime's folder is another one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pagdeploy.manifest import Manifest

SCHEMA = Path(__file__).parents[2] / "engines/runtime/core/manifest_schema.json"
_FOR_READERS = ("title", "description", "default")  # of no consequence to a check


def schema() -> str:
    """The schema as text: JSON Schema, without what is there for people."""
    return json.dumps(_plain(Manifest.model_json_schema()), indent=1, sort_keys=True) + "\n"


def _plain(part: Any, *, names: bool = False) -> Any:
    """A part of the schema; `names`: its keys are those of the manifest, not keywords."""
    if isinstance(part, list):
        return [_plain(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _plain(value, names=key in ("properties", "$defs") and not names)
        for key, value in part.items()
        if names or key not in _FOR_READERS
    }


def main() -> None:
    """Compare, or write."""
    if sys.argv[1:] == ["--write"]:
        SCHEMA.write_text(schema(), encoding="utf-8")
    elif SCHEMA.read_text(encoding="utf-8") != schema():
        print(f"{SCHEMA} is not that of pagdeploy.manifest: run with --write")
        sys.exit(1)


if __name__ == "__main__":
    main()
