"""Hold the defaults that the C++ structs have to the op table; exits 1 if they differ."""

from __future__ import annotations

import json
import subprocess
import sys

from pagdeploy.ops import PERFORATED_CONV


def main() -> None:
    """Run the program named by the first argument and compare what it prints."""
    printed = subprocess.run([sys.argv[1]], capture_output=True, text=True, check=True).stdout
    compiled = json.loads(printed)
    if list(compiled) != [attribute.name for attribute in PERFORATED_CONV.attributes]:
        sys.exit(f"other attributes, or another order: {list(compiled)}")
    for attribute in PERFORATED_CONV.attributes:
        value = compiled[attribute.name]
        default = attribute.default
        if isinstance(default, float):
            same = abs(value - default) <= 1e-6 * abs(default)
        else:
            same = value == (
                [] if default is None else default if isinstance(default, int) else list(default)
            )
        if not same:
            sys.exit(f"{attribute.name} is {value} in C++ and {default} in the table")


if __name__ == "__main__":
    main()
