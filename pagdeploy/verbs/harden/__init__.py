"""Harden: soft mixtures become gates, on request only, and a report says what that changes.

A mixture weighs what all of its branches compute, so nothing of it can be left out. Where one
weight is nearly all of it, the branch of that weight alone says nearly the same. Whether it does is
a question of the trained network, which only its outputs, and its scores, answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pagdeploy.files import replacing_file, require_writable
from pagdeploy.graph.describe import note_hardened
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.harden.choice import Choice
from pagdeploy.verbs.harden.comparison import compare_models, score_models
from pagdeploy.verbs.harden.result import HardenResult
from pagdeploy.verbs.scoring import TaskScore, check_settings, first_failure
from pagdeploy.verbs.tasks import Settings

__all__ = ["HardenResult", "harden"]

Arrays = Mapping[str, npt.NDArray[Any]]

_STEPS = 4


def harden(
    model: Path,
    output: Path,
    *,
    only: Sequence[str] = (),
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    data: Path | None = None,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    progress: Progress = silent,
) -> HardenResult:
    """Write a model whose soft mixtures are gates.

    Args:
        model: An ONNX file, portable or from any exporter.
        output: The portable ONNX file to write.
        only: Regular expressions of mixtures, by the names of their nodes; default: all of which a
            gate would spare a convolution.
        inputs: A request to compare on, by name; default: smooth noise.
        shapes: Of the request, by input.
        data: A folder of images and truths to score both models on, see `verbs.ground_truth`.
        settings: How to score; with a tolerance nothing is written if a score loses more.
        progress: Told of the steps.

    Raises:
        UsageError: no mixture can be hardened, or a path, expression, shape or input is wrong.
        IncompatibleArtifact: the model or the data cannot be used.
        EnvironmentProblem: onnxruntime is not installed.
        VerificationFailed: recognising the gates changes the model, which is a fault of ours.
        BuildFailed: onnxruntime refuses the model.
    """
    from pagdeploy.bundle import refuse_inside_bundle
    from pagdeploy.graph.describe import describe
    from pagdeploy.graph.read import read_model
    from pagdeploy.pipeline import recognise
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.source import Source, recognition_note

    check_settings(settings)
    refuse_inside_bundle(output)
    require_writable(output)  # now, rather than when all is scored
    progress(f"read {model}", 1, _STEPS)
    original = read_model(model)
    choice = Choice(original, only)

    progress("recognise gates", 2, _STEPS)
    rulings = choice.narrow()
    soft, hard = choice.soft(), choice.hard()
    portable = recognise(hard)
    given = inputs
    if given is None:
        given = made_up_inputs(portable, example_shapes(portable, shapes or {}))
    warnings = recognition_note(Source(hard, portable), given)
    if inputs is None:
        warnings.append("Changes are those of made-up noise; give --input for a real request.")

    progress("compare with the soft model", 3, _STEPS)
    gates, outputs, costs = compare_models(
        choice.chosen(), soft, portable, given, rulings, choice.gates
    )
    images, scores = 0, list[TaskScore]()
    if data is not None:
        images, scores, notes = score_models(
            str(model), soft, portable, data, settings, given, shapes
        )
        warnings += notes
    reason = None
    if settings.tolerance is not None:
        reason = first_failure(scores, "hardened model", "soft one")

    progress(f"write {output}", _STEPS, _STEPS)
    if reason is None:
        note_hardened(portable, [gate.name for gate in gates])
        describe(portable)
        with replacing_file(output) as temporary:
            temporary.write_bytes(portable.SerializeToString())
    return HardenResult(
        path=output,
        written=reason is None,
        gates=gates,
        left=choice.left,
        outputs=outputs,
        macs_soft=costs[0],
        macs_hard=costs[1],
        images=images,
        scores=scores,
        warnings=warnings,
        reason=reason,
    )
