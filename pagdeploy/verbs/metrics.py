"""What the tasks of a network score on a folder of data, by the reference and by the engine.

`verify` proves that the engine computes the reference's function to within rounding. This says what
the rounding costs: every image runs through both, and both answers are held to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import MODEL, SAMPLE_INPUTS, Bundle, open_bundle
from pagdeploy.errors import UsageError
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.ground_truth import open_data
from pagdeploy.verbs.tasks import Settings, Task, tasks_of

if TYPE_CHECKING:
    from pagdeploy.check.metrics import Score
    from pagdeploy.engines.base import Session

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

TOLERANCES = {"int8": 0.02}
"""What an engine may lose, as a share; `TOLERANCE` in the other precisions."""
TOLERANCE = 0.005

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
        reference: Of the portable model in float32.
        engine: Of the bundle's engine.
        difference: engine - reference.
        allowed: What the engine may lose, in the unit.
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
class TaskReport:
    """What reference and engine score on a folder of data.

    Attributes:
        bundle: Its path.
        engine: Name and version of what runs it.
        lowering: Of the engine.
        precision: Of the engine.
        data: Path of the folder.
        images: How many there were.
        tolerance: The share that was allowed.
        scores: One entry a score.
        notes: What the reader should know, one sentence each.
        reason: None if everything passed, else the first failure in one sentence.
    """

    bundle: str
    engine: str
    lowering: str
    precision: str
    data: str
    images: int
    tolerance: float
    scores: list[TaskScore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.reason is None


def score_tasks(
    path: Path,
    data: Path,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    *,
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int = 0,
    allow_host_code: bool = False,
    progress: Progress = silent,
) -> TaskReport:
    """Score a bundle's tasks on a folder of data, beside the reference's.

    Args:
        path: Of the bundle.
        data: A folder as `verbs.ground_truth` describes it.
        settings: How to count.
        inputs: What the model takes besides the image, by name; default: as in the sample.
        shapes: Of the image, to resize pictures to.
        threads: Inside one operator, on a CPU; 0 takes one per core.
        allow_host_code: As `load`.
        progress: Told of each image.

    Raises:
        UsageError: the folder, a task, an output or a setting is wrong.
        EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `open_session`.
    """
    _check(settings)
    bundle = open_bundle(path)
    info = bundle.manifest.engine
    folder = open_data(data)
    outputs = [tensor.name for tensor in bundle.manifest.outputs]
    tasks = tasks_of(outputs, folder, settings.outputs)
    image = _image_input(bundle)
    size = _size_of(bundle, image, shapes or {})
    given = _besides(bundle, image, inputs or {})

    from pagdeploy.verbs.session import open_session

    sessions = {
        "reference": _reference(bundle, threads),
        "engine": open_session(bundle, threads=threads, host_code=allow_host_code),
    }
    counted: dict[tuple[str, str], Score] = {}
    for number, example in enumerate(folder.examples(list(tasks), size), 1):
        progress(f"score {example.name}", number, len(folder.files))
        for who, session in sessions.items():
            answers = session.run({image: example.image, **given})
            for name, task in tasks.items():
                answer = answers[task.output]
                if (who, name) not in counted:
                    counted[who, name] = task.counter(answer, settings)
                task.count(counted[who, name], answer, example)
    allowed = settings.tolerance
    if allowed is None:
        allowed = TOLERANCES.get(info.precision, TOLERANCE)
    scores = [
        row
        for name, task in tasks.items()
        for row in _rows(
            task, counted["reference", name].scores(), counted["engine", name].scores(), allowed
        )
    ]
    return TaskReport(
        bundle=str(path),
        engine=f"{info.flavour} {info.version}",
        lowering=info.lowering,
        precision=info.precision,
        data=str(data),
        images=len(folder.files),
        tolerance=allowed,
        scores=scores,
        notes=[note for task in tasks.values() for note in task.notes],
        reason=_first_failure(scores),
    )


def _check(settings: Settings) -> None:
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


def _image_input(bundle: Bundle) -> str:
    images = [tensor.name for tensor in bundle.manifest.inputs if len(tensor.shape) == 4]
    if len(images) == 1:
        return images[0]
    raise UsageError(
        f"{bundle.path} has {len(images)} inputs of four axes, and a folder of images feeds one.",
        remedy="Score it by a program of your own, with pagdeploy.check.metrics.",
    )


def _size_of(
    bundle: Bundle, image: str, shapes: Mapping[str, Sequence[int]]
) -> tuple[int, int] | None:
    """To resize pictures to: as asked, else what a fixed input wants, else their own."""
    (tensor,) = [tensor for tensor in bundle.manifest.inputs if tensor.name == image]
    for name in shapes:
        if name != image or len(shapes[name]) != 4 or shapes[name][0] != 1:
            raise UsageError(
                f"The shape of {name!r} cannot be right.",
                remedy=f"One image is run after the other: write {image}:1x3x480x640.",
            )
    height, width = shapes[image][2:] if image in shapes else tensor.shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _besides(bundle: Bundle, image: str, given: Arrays) -> dict[str, Array]:
    names = [tensor.name for tensor in bundle.manifest.inputs if tensor.name != image]
    for name in given:
        if name not in names:
            raise UsageError(
                f"The input {name!r} comes from the folder, or is none.",
                remedy=f"Give those besides: {', '.join(names) or 'there are none'}.",
            )
    sample = bundle.arrays(SAMPLE_INPUTS)
    return {name: given[name] if name in given else sample[name] for name in names}


def _reference(bundle: Bundle, threads: int) -> Session:
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.graph.read import read_model
    from pagdeploy.ops.bodies import attach_bodies

    whole = attach_bodies(read_model(bundle.file(MODEL)))
    return OnnxRuntimeEngine().load(whole.SerializeToString(), threads=threads)


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


def _first_failure(scores: Sequence[TaskScore]) -> str | None:
    for row in scores:
        if math.isnan(row.reference):
            return f"No pixel has a truth that the score {row.metric!r} of {row.task} can use."
        if not row.passed:
            unit = " degrees" if row.unit == "degrees" else ""
            return (
                f"The engine scores {row.engine:.4g}{unit} in {row.metric} of {row.task}, the"
                f" reference {row.reference:.4g}: it loses more than {row.allowed:.3g}{unit}."
            )
    return None
