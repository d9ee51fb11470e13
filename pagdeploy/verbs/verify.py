"""Verify: does the engine compute the function of the portable model?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import open_bundle, refuse_inside_bundle
from pagdeploy.errors import UsageError
from pagdeploy.files import require_writable
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.cases import Case, case_of_bundle, case_of_file
from pagdeploy.verbs.proof import Evidence, Verification, verify_models
from pagdeploy.verbs.source import random_note
from pagdeploy.verbs.verify_page import write_report

if TYPE_CHECKING:
    from pagdeploy.verbs.against import Against

Arrays = Mapping[str, npt.NDArray[Any]]


def verify(
    subject: Path,
    *,
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    lowering: str = "gather",
    precision: str = "fp32",
    keep_fp32: Sequence[str] = (),
    calibration: Arrays | None = None,
    graph_only: bool = False,
    layers: bool = False,
    bisect: bool = False,
    against: str | None = None,
    factory: str | None = None,
    weights: Path | None = None,
    allow_host_code: bool = False,
    html: Path | None = None,
    command: str | None = None,
    progress: Progress = silent,
) -> Verification:
    """Verify a bundle, or a portable model against one of its lowerings.

    Args:
        subject: A bundle or an ONNX file.
        inputs: By name; default: the bundle's sample, or smooth noise.
        shapes: Of the noise, for an ONNX file.
        lowering: Which one, for an ONNX file.
        precision: Likewise; one of `precision.PRECISIONS`.
        keep_fp32: Likewise; regular expressions of nodes that stay float32.
        calibration: Typical inputs for int8, and for the probe of fp16, where the default is the
            inputs themselves.
        graph_only: Of a bundle with a plan, verify the graph that it was built from, in
            onnxruntime; the plan itself is not run.
        layers: Judge every layer by itself, too.
        bisect: Look for the first node that is wrong.
        against: Compare with another implementation, too: "ort" (the portable model, which is what
            is compared anyway), "dense", "torch", a bundle or an ONNX file.
        factory: Of "torch": as `export` takes it; its code runs.
        weights: Likewise: a checkpoint.
        allow_host_code: As `load`.
        html: Report to write.
        command: For the report: what it comes from; default: the call in Python.
        progress: Told of the steps.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `build` and `load`.
    """
    evidence: list[Evidence] = []
    _require_something(against, factory, weights)  # first: what follows takes time
    if html is not None:
        refuse_inside_bundle(html)
        require_writable(html)
    progress(f"read {subject}", 1, 3)
    if subject.is_dir():
        case = case_of_bundle(open_bundle(subject), inputs, graph_only, allow_host_code)
    elif graph_only:
        raise UsageError(
            f"The option --graph-only belongs to a bundle, and {subject} is a file.",
            remedy="Leave it out: of an ONNX file, the graph is all that there is.",
        )
    else:
        case = case_of_file(
            subject, inputs, shapes or {}, lowering, precision, keep_fp32, calibration
        )
    verdict = verify_models(
        case.portable,
        case.engine,
        case.inputs,
        subject=f"the graph of {subject}" if graph_only else str(subject),
        lowering=case.lowering,
        precision=case.precision,
        rounded=case.rounded,
        stored=case.stored,
        runner=case.runner,
        deployed=case.deployed,
        on_evidence=evidence.append if html is not None else None,
        progress=progress,
    )
    drawn = random_note(case.portable)
    told = [*case.warnings, *([] if drawn is None else [drawn])]
    verdict = replace(verdict, warnings=list(dict.fromkeys(told)))
    if drawn is not None and verdict.reason is not None:
        verdict = replace(verdict, reason=f"{drawn} {verdict.reason}")
    if layers or bisect:
        from pagdeploy.verbs.closer import CloserLook, look_closer

        verdict = look_closer(
            verdict,
            CloserLook(
                case.portable,
                case.engine,
                case.inputs,
                lowering=case.lowering,
                precision=case.asked,
                runner=case.runner,
            ),
            layers=layers,
            bisect=bisect,
            progress=progress,
        )
    if against is not None:
        found = _against(case, subject, against, factory, weights, allow_host_code)
        reason = verdict.reason or (None if found is None else found.reason)
        verdict = replace(verdict, against=found, reason=reason)
    if html is not None:
        write_report(html, verdict, evidence[0], subject, command)
    return verdict


def _require_something(other: str | None, factory: str | None, weights: Path | None) -> None:
    """Refuse a comparison with nothing, and options of one that was not asked for."""
    if (other == "torch") != (factory is not None) or (weights is not None and factory is None):
        raise UsageError(
            "The comparison with PyTorch needs the model's factory, and no other one takes it.",
            remedy="Write --against torch --factory file.py:factory, and --weights if it has some.",
        )
    if other not in (None, "ort", "dense", "torch") and not Path(other).exists():
        raise UsageError(
            f"There is nothing to compare with at {other}.",
            remedy="Write --against ort, dense, torch, or the path of a bundle or an ONNX file.",
        )


def _against(
    case: Case,
    subject: Path,
    other: str,
    factory: str | None,
    weights: Path | None,
    allow_host_code: bool,
) -> Against | None:
    """The comparison with another implementation; None if it is the one that is made anyway."""
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.against import Implementation, against, against_torch, of_file

    def of(case: Case, name: str) -> Implementation:
        shown = case.portable, case.engine, case.precision, case.runner, case.deployed
        return Implementation(name, *shown)

    mine = of(case, str(subject))
    if other == "ort":
        return None
    if factory is not None:
        return against_torch(mine, factory, weights, case.inputs)
    if other == "dense":
        dense = lower(case.portable, "dense", precision=case.asked, emulated=True)
        twin = Implementation("the dense lowering", case.portable, dense, case.precision)
        return against(mine, twin, case.inputs)
    path = Path(other)
    if path.is_dir():
        theirs = case_of_bundle(open_bundle(path), case.inputs, False, allow_host_code)
        return against(mine, of(theirs, other), case.inputs)
    return against(mine, of_file(path), case.inputs)
