"""The report of a verification: the verdict, and pictures of everything that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.report.html import element, facts, note
from pagdeploy.report.page import Page, Section, write_page
from pagdeploy.verbs.verify_page.decisions import flips, gates
from pagdeploy.verbs.verify_page.layers import fault, layers
from pagdeploy.verbs.verify_page.numbers import against, outputs
from pagdeploy.verbs.verify_page.pictures import what_ran

if TYPE_CHECKING:
    from pagdeploy.verbs.proof import Evidence, Verification


@dataclass(frozen=True)
class Origin:
    """How the result came about.

    Attributes:
        command: As it was given.
        facts: Versions and digests by what they are of.
    """

    command: str
    facts: Mapping[str, str]


def verify_page(result: Verification, evidence: Evidence, origin: Origin) -> Page:
    """The report.

    Args:
        result: What was compared, and the verdict.
        evidence: The arrays behind it.
        origin: How to get the same again.
    """
    return Page(
        title=f"Verification of {Path(result.subject).name}",
        lead=sentence(result),
        passed=result.passed,
        sections=[
            Section("What ran", list(what_ran(result, evidence))),
            Section("Gates", list(gates(result, evidence))),
            Section("Decisions that differ", list(flips(result, evidence))),
            Section("Outputs", list(outputs(result, evidence))),
            Section("Another implementation", list(against(result))),
            Section("The first fault", list(fault(result))),
            Section("Layers", list(layers(result))),
            Section("Warnings", [note(text) for text in (*result.warnings, *result.findings)]),
            Section("How to reproduce", [element("pre", origin.command), facts(origin.facts)]),
        ],
    )


def write_report(
    path: Path, result: Verification, evidence: Evidence, subject: Path, command: str | None
) -> None:
    """Write the report of what was just verified.

    Args:
        path: HTML file.
        result: What was compared, and the verdict.
        evidence: The arrays behind it.
        subject: Bundle or ONNX file.
        command: That it comes from; None is the call in Python.
    """
    from pagdeploy.files import replacing_file
    from pagdeploy.verbs.versions import digests, versions

    told = command or f"pagdeploy.verify({str(subject)!r})"
    page = verify_page(result, evidence, Origin(told, {**digests(subject), **versions()}))
    with replacing_file(path) as temporary:
        write_page(temporary, page)


def sentence(result: Verification) -> str:
    """The verdict in one sentence."""
    if result.reason is not None:
        return result.reason
    flips = sum(gate.forced_flips for gate in result.gates)
    pixels = sum(gate.pixels for gate in result.gates)
    error = max((output.error for output in result.outputs), default=0.0)
    if not result.gates:
        decisions = "it has no gates"
    elif flips:
        decisions = f"{flips:,} of {pixels:,} decisions differ, all of them near a tie"
    else:
        decisions = f"all {pixels:,} decisions agree"
    return (
        f"{Path(result.subject).name} ({result.lowering}, {result.precision}) computes the function"
        f" of the portable model: {decisions}, and outputs differ by at most {error:.2g} of their"
        " scale."
    )
