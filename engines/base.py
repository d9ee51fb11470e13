"""What every engine promises, and how a request is checked before a native library sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import UsageError

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an engine.

    Attributes:
        name: As in the graph.
        dtype: numpy's name of the element type, such as "float32".
        shape: One entry per axis: a number, or the name of a dynamic size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"

    def accepts(self, array: Array) -> bool:
        """Whether an array's dtype and sizes fit; dynamic sizes must be positive."""
        return (
            array.dtype == np.dtype(self.dtype)
            and array.ndim == len(self.shape)
            and all(
                size == want if isinstance(want, int) else size > 0
                for size, want in zip(array.shape, self.shape, strict=True)
            )
        )


class Session(Protocol):
    """A loaded engine, ready to run."""

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What it gives."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong dtype or shape.
        """


class Engine(Protocol):
    """One way to run a portable model.

    Attributes:
        name: As the user spells it after --engine.
        lowerings: What the pipeline can make for it, the portable default first.
    """

    name: ClassVar[str]
    lowerings: ClassVar[tuple[str, ...]]

    def available(self) -> str | None:
        """None, or why the engine cannot run here, with the remedy."""

    def version(self) -> str:
        """Full version of the runtime."""

    def load(self, model: bytes, *, threads: int = 0, taking_turns: bool = False) -> Session:
        """A session for a lowered model; threads = 0 takes one per core.

        `taking_turns` is for sessions that are timed against others of the same process.
        """


def check_inputs(wanted: Sequence[TensorInfo], given: Arrays) -> None:
    """Refuse inputs that a session cannot take.

    Raises:
        UsageError: an input is missing, unknown, or of a wrong dtype or shape; the message names
            what is there and what is wanted.
    """
    listing = "; ".join(map(str, wanted))
    by_name = {info.name: info for info in wanted}
    for name in given:
        if name not in by_name:
            raise UsageError(
                f"The model has no input named {name!r}.", remedy=f"Its inputs are {listing}."
            )
    for name, info in by_name.items():
        if name not in given:
            raise UsageError(
                f"The input {name!r} is missing.", remedy=f"Give every input: {listing}."
            )
        array = given[name]
        if not info.accepts(array):
            shape = ", ".join(map(str, array.shape))
            raise UsageError(
                f"The input {name!r} is {array.dtype} ({shape}).",
                remedy=f"The model wants {info}.",
            )
