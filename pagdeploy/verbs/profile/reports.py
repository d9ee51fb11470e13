"""The files of a profile: each is complete or not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.bundle import refuse_inside_bundle
from pagdeploy.verbs.profile.request import Reports
from pagdeploy.verbs.profile.result import ENGINE, ProfileResult

if TYPE_CHECKING:
    from pagdeploy.engines.ort_profile import NodeTimes
    from pagdeploy.measure.latency import Run
    from pagdeploy.verbs.profile.candidates import Candidates


@contextlib.contextmanager
def writing(reports: Reports) -> Iterator[Reports]:
    """The files under temporary names; they take their own when the block ends well."""
    from pagdeploy.files import replacing_file

    with contextlib.ExitStack() as stack:
        opened = {}
        for name, path in vars(reports).items():
            if path is not None:
                refuse_inside_bundle(path)
                opened[name] = stack.enter_context(replacing_file(path))
        yield Reports(**opened)


def write_reports(
    files: Reports,
    result: ProfileResult,
    runs: Sequence[Run],
    nodes: Sequence[NodeTimes],
    candidates: Candidates,
    plot: Path | None,
) -> None:
    """Write what was asked for.

    Args:
        files: Under their temporary names.
        result: To report.
        runs: Of the engine.
        nodes: Of the engine.
        candidates: That were timed.
        plot: The name of the figure, whose suffix names the format.
    """
    from pagdeploy.verbs.profile import charts, exports
    from pagdeploy.verbs.profile.page import write_page

    if files.times is not None:
        exports.write_times(files.times, runs)
    if files.profile is not None:
        exports.write_profile(files.profile, nodes)
    if files.html is not None:
        write_page(files.html, result)
    if files.plot is not None and plot is not None:
        charts.write_figure(files.plot, plot.suffix.lower().removeprefix("."), result)
    if files.layers is not None:
        _write_layers(files.layers, candidates)


def _write_layers(path: Path, candidates: Candidates) -> None:
    from pagdeploy.engines.nvidia.session import PlanSession
    from pagdeploy.engines.ort_profile import list_layers
    from pagdeploy.verbs.profile.exports import write_layers

    session = candidates.sessions[ENGINE]
    if isinstance(session, PlanSession):
        layers = session.layers()
    else:
        layers = list_layers(
            candidates.models[ENGINE].SerializeToString(),
            threads=candidates.threads,
            libraries=candidates.libraries,
        )
    write_layers(path, layers)
