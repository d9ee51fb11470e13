"""The fenced blocks of a page, and the shell session that its `sh` blocks make."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.tree import REPOSITORY

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\binf\b|\bnan\b)")
_LOWERING = re.compile(r"\b(dense|gather|native)\b")
_BLOCK = "=== block {number}"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line where it begins."""

    language: str
    text: str
    line: int


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page of the repository, in order."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def run_session(blocks: list[Block], folder: Path) -> list[str]:
    """Run shell blocks one after the other in one shell, as a reader does who copies them.

    The shell stops at the first command that fails. The op library is left out, because a fresh
    clone has none.

    Returns:
        What each block printed, standard error included.
    """
    marks = [_BLOCK.format(number=number) for number in range(len(blocks))]
    script = "".join(
        f"echo '{mark}'\n{block.text}" for mark, block in zip(marks, blocks, strict=True)
    )
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{Path(shutil.which('bash') or '').parent}:/usr/bin",
        "HOME": str(folder),
        "COLUMNS": "200",
        "PAGDEPLOY_ORT_OPS": "off",
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", f"exec 2>&1\n{script}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"a block failed; the session said:\n{done.stdout[-4000:]}"
    return re.split(r"^=== block \d+\n", done.stdout, flags=re.MULTILINE)[1:]


def skeleton(line: str) -> str:
    """A line of output without what differs between machines: numbers, widths, the lowering."""
    line = _LOWERING.sub("LOWERING", _NUMBER.sub("#", line))
    return re.sub(r"[\s─]+", " ", line).strip()


def unsaid(block: Block, output: str) -> list[str]:
    """The lines that a page shows as output and that the command did not print."""
    said = {skeleton(line) for line in output.splitlines()}
    shown = [line for line in block.text.splitlines() if line.strip() != "..."]
    return [line for line in shown if skeleton(line) and skeleton(line) not in said]
