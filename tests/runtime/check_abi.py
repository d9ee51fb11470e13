"""Hold the runtime's library and header to the ABI that abi.txt froze.

    check_abi.py LAYOUT LIBRARY [--write]

LAYOUT is the built layout.c. Exits 1 and says what differs; 77 where that cannot be told: without
`nm`, or where pointers have not 64 bits. --write freezes what has been added, and only that.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

FROZEN = Path(__file__).parent / "abi.txt"
HEADER = """\
# The ABI of libpagdeploy_runtime.so: exported functions; structs with their size, and fields with
# offset and size, in bytes on a machine of 64 bits; constants. Lines are added, and none changes.
# Written by check_abi.py --write.
"""


def lines_of(*command: str) -> list[str]:
    """What a program prints, line by line."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def found(layout: str, library: str) -> list[str]:
    """The ABI as it is, in the form of abi.txt."""
    exported = lines_of("nm", "-D", "--defined-only", library)
    names = sorted({line.split()[-1].split("@")[0] for line in exported if line.split()})
    return [f"function {name}" for name in names] + lines_of(layout)


def frozen() -> list[str]:
    """The ABI as it was promised."""
    text = FROZEN.read_text(encoding="utf-8") if FROZEN.is_file() else ""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def may_grow(line: str) -> bool:
    """Whether a later version may replace a line: a struct that ends with new fields is larger."""
    return line.startswith("struct ")


def main() -> None:
    """Compare, or freeze."""
    layout, library, *flags = sys.argv[1:]
    if shutil.which("nm") is None or struct.calcsize("P") != 8:
        print("skipped: no nm (Debian: binutils), or pointers have not 64 bits")
        sys.exit(77)
    was, now = frozen(), found(layout, library)
    gone = [line for line in was if line not in now]
    new = [line for line in now if line not in was]
    broken = [line for line in gone if not (flags and may_grow(line))]
    for line in broken:
        print(f"was promised and is not there: {line}")
    if flags and not broken:
        FROZEN.write_text(HEADER + "\n".join(now) + "\n", encoding="utf-8")
        print(f"{FROZEN}: {len(new)} lines added")
        return
    for line in new:
        print(f"is not frozen yet; if it is meant, run with --write: {line}")
    sys.exit(1 if broken or new else 0)


if __name__ == "__main__":
    main()
