"""Versions as NVIDIA and glibc write them: numbers between dots."""

from __future__ import annotations


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: (10, 16, 1) of "10.16.1" and of "10.16.1.post1"."""
    found = []
    for part in version.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        found.append(int(part))
    return tuple(found)
