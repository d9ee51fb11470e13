"""Scores of several models on one folder of data, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.errors import UsageError
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.tasks import Settings, Task

if TYPE_CHECKING:
    from pagdeploy.check.metrics import Score
    from pagdeploy.engines.base import Session
    from pagdeploy.verbs.ground_truth import DataFolder

Arrays = Mapping[str, npt.NDArray[Any]]

_LOWER_IS_BETTER = ("AbsRel", "mean angle", "median angle")
_DEGREES = ("mean angle", "median angle")
_DEGREE = 0.01  # one degree counts as one percent
_NOT_JUDGED = ("threshold",)


@dataclass(frozen=True)
class TaskScore:
    """One score of one task.

    Attributes:
        task: A key of `ground_truth.TASKS`.
        output: Of the model.
        metric: As `check.metrics` names it.
        unit: "share" or "degrees".
        better: "higher" or "lower"; empty for a number that is not judged.
        reference: Of the portable model in float32; where a model was hardened, of the soft one.
        engine: Of the bundle's engine, or of what is judged in its place.
        difference: engine - reference.
        allowed: What that may lose, in the unit.
        passed: Whether it lost no more.
    """

    task: str
    output: str
    metric: str
    unit: str
    better: str
    reference: float
    engine: float
    difference: float
    allowed: float
    passed: bool


@dataclass(frozen=True)
class Request:
    """How an image becomes a request.

    Attributes:
        image: Input that it goes to.
        size: (H, W) to resize pictures to; None keeps their own.
        besides: What else every request gives, by name.
    """

    image: str
    size: tuple[int, int] | None
    besides: Arrays = field(default_factory=dict)


def check_settings(settings: Settings) -> None:
    """Refuse tolerances that cannot be right."""
    tolerance = settings.tolerance
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UsageError(
            "The tolerance cannot be right.", remedy="Give percent, between 0 and 100."
        )
    if not 0 <= settings.boundary_tolerance <= 0.1:
        raise UsageError(
            "The boundary tolerance cannot be right.",
            remedy="Give a share of the diagonal, between 0 and 0.1.",
        )


def request_of(
    model: str, interface: Mapping[str, Sequence[Any]], shapes: Mapping[str, Sequence[int]]
) -> Request:
    """How an image becomes a request, with nothing besides.

    Args:
        model: What to call it in an error.
        interface: Shape of every input, by name; what is no int may be any size.
        shapes: Of the image, to resize pictures to: as asked, else what a fixed input wants, else
            their own.

    Raises:
        UsageError: no input or several have four axes, or a shape cannot be right.
    """
    images = [name for name, shape in interface.items() if len(shape) == 4]
    if len(images) != 1:
        raise UsageError(
            f"{model} has {len(images)} inputs of four axes, and a folder of images feeds one.",
            remedy="Score it by a program of your own, with pagdeploy.check.metrics.",
        )
    (image,) = images
    for name in shapes:
        if name != image or len(shapes[name]) != 4 or shapes[name][0] != 1:
            raise UsageError(
                f"The shape of {name!r} cannot be right.",
                remedy=f"One image is run after the other: write {image}:1x3x480x640.",
            )
    height, width = (shapes[image] if image in shapes else interface[image])[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    return Request(image, (height, width) if fixed else None)


def count_scores(
    sessions: Mapping[str, Session],
    tasks: Mapping[str, Task],
    folder: DataFolder,
    request: Request,
    settings: Settings,
    progress: Progress = silent,
) -> dict[str, dict[str, Mapping[str, float]]]:
    """What each session scores on every image, by its name, the task's and the metric's.

    Args:
        sessions: Of models that answer the same tasks.
        tasks: By name.
        folder: Of images and truths.
        request: How an image becomes a request.
        settings: How to count.
        progress: Told of each image.
    """
    counted: dict[str, dict[str, Score]] = {who: {} for who in sessions}
    for number, example in enumerate(folder.examples(list(tasks), request.size), 1):
        progress(f"score {example.name}", number, len(folder.files))
        for who, session in sessions.items():
            answers = session.run({request.image: example.image, **request.besides})
            for name, task in tasks.items():
                answer = answers[task.output]
                if name not in counted[who]:
                    counted[who][name] = task.counter(answer, settings)
                task.count(counted[who][name], answer, example)
    return {
        who: {name: score.scores() for name, score in scores.items()}
        for who, scores in counted.items()
    }


def compared(
    tasks: Mapping[str, Task],
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    allowed: float,
) -> list[TaskScore]:
    """One entry a score.

    Args:
        tasks: By name.
        before: Of the reference, by task and metric.
        after: Of what is judged.
        allowed: What it may lose, as a share.
    """
    return [
        row
        for name, task in tasks.items()
        for row in _rows(task, before[name], after[name], allowed)
    ]


def _rows(
    task: Task, reference: Mapping[str, float], engine: Mapping[str, float], allowed: float
) -> list[TaskScore]:
    rows = []
    for metric, before in reference.items():
        if math.isnan(before) and metric in _NOT_JUDGED:
            continue
        after = engine[metric]
        lower, degrees = metric in _LOWER_IS_BETTER, metric in _DEGREES
        limit = allowed / _DEGREE if degrees else allowed
        lost = after - before if lower else before - after
        judged = metric not in _NOT_JUDGED
        rows.append(
            TaskScore(
                task=task.name,
                output=task.output,
                metric=metric,
                unit="degrees" if degrees else "share",
                better=("lower" if lower else "higher") if judged else "",
                reference=before,
                engine=after,
                difference=after - before,
                allowed=limit,
                passed=not judged or lost <= limit,  # NaN fails
            )
        )
    return rows


def first_failure(scores: Sequence[TaskScore], judged: str, reference: str) -> str | None:
    """The first score that is lost or missing, in one sentence; None if all passed.

    Args:
        scores: Of `compared`.
        judged: What to call the model that may lose.
        reference: What to call the other one.
    """
    for row in scores:
        if math.isnan(row.reference):
            return f"No pixel has a truth that the score {row.metric!r} of {row.task} can use."
        if not row.passed:
            unit = " degrees" if row.unit == "degrees" else ""
            return (
                f"The {judged} scores {row.engine:.4g}{unit} in {row.metric} of {row.task}, the"
                f" {reference} {row.reference:.4g}: it loses more than {row.allowed:.3g}{unit}."
            )
    return None
