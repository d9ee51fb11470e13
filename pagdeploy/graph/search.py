"""Search names for regular expressions, within a limit of time.

A pattern may come with a bundle that nobody vouches for, and a few characters such as (a+)+$ keep
Python's matcher busy for years. It cannot be interrupted, so it runs in a child process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from pagdeploy.errors import UsageError

TIME_LIMIT = 10.0
"""Seconds for all of it; a thousand names and an honest pattern take some 50 ms."""

_CHILD = """
import json, re, sys
patterns, names = json.load(sys.stdin)
json.dump([[bool(re.search(p, name)) for name in names] for p in patterns], sys.stdout)
"""


def search(patterns: Sequence[str], names: Sequence[str]) -> list[set[str]]:
    """For each pattern, the names that it is found in.

    Args:
        patterns: Valid regular expressions.
        names: In any order.

    Raises:
        UsageError: the time limit is over.
    """
    if not patterns:
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],  # isolated from the user's modules
            input=json.dumps([patterns, names]),
            capture_output=True,
            check=True,
            text=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"The patterns {', '.join(map(repr, patterns))} cannot be searched for within"
            f" {TIME_LIMIT:g} seconds.",
            remedy="Repeat no group that itself holds a repetition.",
        ) from None
    found = json.loads(done.stdout)
    return [{name for name, hit in zip(names, hits, strict=True) if hit} for hits in found]
