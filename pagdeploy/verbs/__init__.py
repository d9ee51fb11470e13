"""What a user can ask for: one function a verb, without a word about the command line."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told at the start of every step of long work."""

    def __call__(self, step: str, number: int, total: int) -> None:
        """`step` begins; it is the `number`th of `total`, counted from 1."""


def silent(step: str, number: int, total: int) -> None:
    """A progress that nobody watches."""
