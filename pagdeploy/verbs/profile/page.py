"""The report of a profile: one HTML file that needs no network, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pagdeploy.report.html import Html, drawings, element, facts, note, paragraph, table
from pagdeploy.report.page import Page, Section
from pagdeploy.report.page import write_page as write
from pagdeploy.verbs.profile.charts import inline_figures
from pagdeploy.verbs.profile.result import ProfileResult
from pagdeploy.verbs.profile.tables import headline, tables


def write_page(path: Path, result: ProfileResult) -> None:
    """Write the report.

    Args:
        path: HTML file.
        result: What to report.
    """
    write(path, profile_page(result))


def profile_page(result: ProfileResult) -> Page:
    """The report."""
    return Page(
        title=f"Profile of {Path(result.bundle).name}",
        lead=f"{headline(result)}.",
        sections=[
            Section("Notes", [note(text) for text in result.notes]),
            Section("Figures", list(_figures(result))),
            *(Section(t.title, [table(t.columns, t.rows)]) for t in tables(result)),
            Section("What it is compared with", [facts(result.baselines)]),
            Section("How it was measured", list(_method(result))),
        ],
    )


def _figures(result: ProfileResult) -> Iterator[Html]:
    for svg in drawings(inline_figures(result)):
        yield element("figure", svg, kind="drawn")


def _method(result: ProfileResult) -> Iterator[Html]:
    effort = result.effort
    yield paragraph(
        f"The candidates took turns in one process: {effort.warm_up_ms:g} ms of warm-up each, then"
        f" at least {effort.iterations} timed runs and {effort.duration_s:g} s each. Times are"
        " those of whole runs, from inputs in memory to outputs in memory. The times of nodes come"
        " from onnxruntime's profiler in runs of their own; taking them costs time itself, so their"
        " sum is no latency."
    )
    inputs = (
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in result.shapes.items()
    )
    yield facts(
        {
            "engine": f"{result.engine}, {result.lowering} lowering, {result.precision}",
            "inputs": ", ".join(inputs),
            **result.machine,
        }
    )
