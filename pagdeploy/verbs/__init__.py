"""What a user can ask for: one function a verb, without a word about the command line."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told at the start of every step of long work: its name, its number from 1, how many there are."""


def silent(step: str, number: int, total: int) -> None:
    """A progress that nobody watches."""
