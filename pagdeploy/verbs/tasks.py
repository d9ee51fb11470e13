"""Which output of a model answers which task, and how its numbers become predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.metrics import (
    BOUNDARY_TOLERANCE,
    IGNORED,
    BoundaryScore,
    DepthScore,
    NormalScore,
    Score,
    SegmentationScore,
    resized,
)
from pagdeploy.errors import UsageError
from pagdeploy.verbs.ground_truth import TASKS, Example

if TYPE_CHECKING:
    from pagdeploy.verbs.ground_truth import DataFolder

Array = npt.NDArray[Any]
_KNOWN = {
    "segmentation": ("segmentation", "semantic", "semseg", "seg"),
    "boundary": ("boundary", "boundaries", "edge", "edges"),
    "depth": ("depth",),
    "normals": ("normals", "normal", "surface_normals"),
}
_FORMS = ("logits", "probability")


@dataclass(frozen=True)
class Settings:
    """How scores are counted.

    Attributes:
        outputs: The output of each task, as the user spells it: "segmentation=OUTPUT", and
            "boundary=OUTPUT:logits" or ":probability".
        tolerance: What the engine may lose, as a share; None is that of its precision.
        ignored: Class of the pixels that do not count.
        boundary_tolerance: Share of the diagonal within which boundary pixels match.
    """

    outputs: Sequence[str] = ()
    tolerance: float | None = None
    ignored: int = IGNORED
    boundary_tolerance: float = BOUNDARY_TOLERANCE


@dataclass
class Task:
    """A task, and the output that answers it."""

    name: str
    output: str
    form: str = ""  # of a boundary; empty: as the first answer suggests
    notes: list[str] = field(default_factory=list)

    def counter(self, answer: Array, settings: Settings) -> Score:
        """An empty score; the first answer says how many classes there are, and of which form."""
        channels = {"boundary": 1, "depth": 1, "normals": 3}.get(self.name)
        plane = answer.ndim == 3 and channels == 1
        if answer.ndim != 4 and not plane and not _is_ids(answer):
            raise self._unfit(answer)
        if channels is not None and not plane and answer.shape[1] != channels:
            raise self._unfit(answer)
        if self.name == "segmentation":
            if _is_ids(answer):
                return SegmentationScore(np.iinfo(np.uint8).max + 1, settings.ignored)
            if answer.shape[1] < 2:
                raise self._unfit(answer)
            return SegmentationScore(answer.shape[1], settings.ignored)
        if self.name == "boundary":
            if not self.form:
                logits = answer.min() < 0 or answer.max() > 1
                self.form = _FORMS[0] if logits else _FORMS[1]
                self.notes.append(
                    f"The output {self.output!r} was taken for {self.form} by the range of the"
                    f" first answer; --task boundary={self.output}:{self.form} says so."
                )
            return BoundaryScore(settings.boundary_tolerance)
        return DepthScore() if self.name == "depth" else NormalScore()

    def count(self, score: Score, answer: Array, example: Example) -> None:
        """Add an answer (1, C, H, W) of the model, at the size of the truth."""
        true = example.truths[self.name]
        size = true.shape[-2:]
        if _is_ids(answer) and self.name == "segmentation":
            found = _nearest(answer.reshape(answer.shape[-2:]), size)
        else:
            scores = answer.astype(np.float32).reshape(-1, *answer.shape[-2:])  # (C, h, w)
            found = resized(scores, size)  # (C, H, W)
            if self.name == "segmentation":
                found = found.argmax(0)
            elif self.name == "boundary":
                found = self._probability(found[0])
            elif self.name == "depth":
                found = found[0]
        try:
            score.add(found, true)
        except ValueError as problem:
            raise UsageError(
                f"The classes of {example.name!r} do not fit the output {self.output!r}:"
                f" {problem}.",
                remedy="Name the class of pixels without a label with --ignore-label.",
            ) from None

    def _probability(self, found: Array) -> Array:
        if self.form == _FORMS[0]:
            return np.asarray(1 / (1 + np.exp(-np.clip(found, -80, 80))))
        if found.min() < -1e-3 or found.max() > 1 + 1e-3:
            raise UsageError(
                f"The output {self.output!r} leaves the range of a probability.",
                remedy=f"Write --task boundary={self.output}:logits.",
            )
        return found

    def _unfit(self, answer: Array) -> UsageError:
        shape = "x".join(map(str, answer.shape))
        return UsageError(
            f"The output {self.output!r} is {answer.dtype} {shape}, which does not answer the task"
            f" {self.name}.",
            remedy=f"Name another one with --task {self.name}=OUTPUT.",
        )


def tasks_of(outputs: Sequence[str], folder: DataFolder, asked: Sequence[str]) -> dict[str, Task]:
    """The tasks to score, by name.

    Args:
        outputs: Of the model.
        folder: With the truths.
        asked: As in `Settings.outputs`; empty: outputs of known names.

    Raises:
        UsageError: a task or an output is not there, or none is left.
    """
    listing = ", ".join(outputs)
    found: dict[str, Task] = {}
    for text in asked:
        name, _, output = text.partition("=")
        form = ""
        if name == "boundary" and output not in outputs and output.endswith((":logits", _FORMS[1])):
            output, _, form = output.rpartition(":")
        if name not in TASKS or form not in ("", *_FORMS):
            raise UsageError(
                f"The task {text!r} cannot be read.",
                remedy=f"Write TASK=OUTPUT, with one of: {', '.join(TASKS)}.",
            )
        if output not in outputs:
            raise UsageError(
                f"The model has no output {output!r}.", remedy=f"Its outputs are {listing}."
            )
        if name not in folder.tasks:
            raise UsageError(
                f"The folder has no truths for the task {name}.",
                remedy=f"It has them for {', '.join(folder.tasks)}.",
            )
        found[name] = Task(name, output, form)
    for name in folder.tasks if not asked else ():
        for known in _KNOWN[name]:
            if known in outputs:
                found[name] = Task(name, known)
                break
    if not found:
        raise UsageError(
            f"No output is named like a task that the folder has ({', '.join(folder.tasks)}).",
            remedy=f"Write --task TASK=OUTPUT; the outputs are {listing}.",
        )
    return found


def _is_ids(answer: Array) -> bool:
    return bool(np.issubdtype(answer.dtype, np.integer))


def _nearest(image: Array, size: Sequence[int]) -> Array:
    rows, columns = (
        np.minimum(((np.arange(wanted) + 0.5) * given / wanted).astype(int), given - 1)
        for given, wanted in zip(image.shape, size, strict=True)
    )
    return np.asarray(image[rows[:, None], columns])
