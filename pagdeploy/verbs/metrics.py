"""What the tasks of a network score on a folder of data, by the reference and by the engine.

`verify` proves that the engine computes the reference's function to within rounding. This says what
the rounding costs: every image runs through both, and both answers are held to the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import MODEL, SAMPLE_INPUTS, Bundle, open_bundle
from pagdeploy.errors import UsageError
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.ground_truth import open_data
from pagdeploy.verbs.scoring import (
    TaskScore,
    check_settings,
    compared,
    count_scores,
    first_failure,
    request_of,
)
from pagdeploy.verbs.tasks import Settings, tasks_of

if TYPE_CHECKING:
    from pagdeploy.engines.base import Session

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

TOLERANCES = {"int8": 0.02}
"""What an engine may lose, as a share; `TOLERANCE` in the other precisions."""
TOLERANCE = 0.005


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
    check_settings(settings)
    bundle = open_bundle(path)
    info = bundle.manifest.engine
    folder = open_data(data)
    outputs = [tensor.name for tensor in bundle.manifest.outputs]
    tasks = tasks_of(outputs, folder, settings.outputs)
    interface = {tensor.name: tensor.shape for tensor in bundle.manifest.inputs}
    request = request_of(str(path), interface, shapes or {})
    request = replace(request, besides=_besides(bundle, request.image, inputs or {}))

    from pagdeploy.verbs.session import open_session

    sessions = {
        "reference": _reference(bundle, threads),
        "engine": open_session(bundle, threads=threads, host_code=allow_host_code),
    }
    allowed = settings.tolerance
    if allowed is None:
        allowed = TOLERANCES.get(info.precision, TOLERANCE)
    counted = count_scores(sessions, tasks, folder, request, settings, progress)
    scores = compared(tasks, counted["reference"], counted["engine"], allowed)
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
        reason=first_failure(scores, "engine", "reference"),
    )


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
