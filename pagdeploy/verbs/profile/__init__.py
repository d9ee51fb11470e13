"""Profile: how fast a bundle is, against what, and where its time goes.

The engine, the masked dense export and the plain dense network take turns in one process, so that
all meet the same machine. Their times are those of whole runs, from inputs in memory to outputs in
memory, after a warm-up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import SAMPLE_INPUTS, Bundle, open_bundle
from pagdeploy.errors import UsageError
from pagdeploy.measure.latency import Effort
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.profile.inside import Measured, look_inside
from pagdeploy.verbs.profile.request import Reports, Sweep, check_request
from pagdeploy.verbs.profile.result import BASELINES, ENGINE, ProfileResult

if TYPE_CHECKING:
    from pagdeploy.verbs.profile.candidates import Candidates

Arrays = Mapping[str, npt.NDArray[Any]]


def profile(
    path: Path,
    *,
    inputs: Arrays | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    effort: Effort = Effort(),  # noqa: B008  (frozen)
    percentiles: Sequence[float] = (90, 95, 99),
    sweep: Sweep = Sweep(),  # noqa: B008
    against: Path | None = None,
    threads: int = 0,
    allow_host_code: bool = False,
    reports: Reports = Reports(),  # noqa: B008
    progress: Progress = silent,
) -> ProfileResult:
    """Profile a bundle.

    Args:
        path: Of the bundle.
        inputs: By name; default: the bundle's sample, or noise of the shapes.
        shapes: Of the noise.
        effort: How long to measure.
        percentiles: To report, each between 0 and 100.
        sweep: Further densities and budgets.
        against: Another bundle with the same inputs, to be timed in turn with this one.
        threads: Inside one operator, on a CPU; 0 takes one per core.
        allow_host_code: As `load`.
        reports: Files to write.
        progress: Told of the steps.

    Raises:
        UsageError: a setting, path, shape or input is wrong; a budget is asked for and the model
            has no such input; or densities are, and the engine is a plan.
        EnvironmentProblem: the engine's runtime is not installed, or there is no GPU; or a plot is
            asked for and matplotlib is not installed.
        IncompatibleArtifact, BuildFailed: as `load`.
    """
    from pagdeploy.verbs.profile.charts import has_matplotlib, require_matplotlib
    from pagdeploy.verbs.profile.machine import describe_machine
    from pagdeploy.verbs.profile.reports import write_reports, writing

    check_request(effort, percentiles, sweep)
    if reports.plot is not None:
        require_matplotlib(reports.plot)
    further = (sweep.densities, sweep.budgets, sweep.worst, against)
    begin = _counted(progress, 4 + sum(map(bool, further)))
    begin(f"load {path}")
    bundle = open_bundle(path)
    info = bundle.manifest.engine
    with writing(reports) as files:  # first: a file that cannot be written fails early
        for asked, flag, possible in (
            (sweep.densities, "--density", info.plan is None),
            (sweep.worst, "--worst-case", info.plan is None),
            (reports.profile, "--export-profile", info.flavour == "onnxruntime"),
            (
                reports.layers,
                "--export-layer-info",
                info.flavour == "onnxruntime" or info.plan is not None,
            ),
        ):
            if asked and not possible:
                raise UsageError(
                    f"{flag} needs an engine that onnxruntime runs on the CPU, and that of {path}"
                    f" is {info.flavour}.",
                    remedy="Leave it out, or build the bundle again with --engine onnxruntime.",
                )
        machine = describe_machine(threads)
        candidates, given = _load(bundle, threads, allow_host_code, inputs, shapes, sweep)
        other = None
        if against is not None:
            from pagdeploy.verbs.profile.against import compare_bundles, open_other

            other = open_other(against, given, threads=threads, host_code=allow_host_code)
        found = _measure(candidates, given, effort, percentiles, sweep, begin)
        if other is not None:
            begin(f"time both bundles in turn, {2 * effort.duration_s:g} s or more")
            own = candidates.sessions[ENGINE]
            found.against = compare_bundles(own, other, given, effort, percentiles)
        result = ProfileResult(
            bundle=str(path),
            engine=f"{info.flavour} {info.version}",
            lowering=info.lowering,
            precision=info.precision,
            shapes={name: list(array.shape) for name, array in given.items()},
            machine=machine,
            effort=effort,
            texture=sweep.texture,
            baselines={name: BASELINES[name] for name in found.request.ratio},
            request=found.request,
            densities=found.densities,
            budgets=found.budgets,
            ops=found.ops,
            notes=_notes(machine, found, drawn=has_matplotlib() or reports.html is None)
            + (_notes_on_both(bundle, other[0], found) if other is not None else []),
            savings=found.savings,
            balance=found.balance,
            peak=found.peak,
            roofline=found.roofline,
            worst=found.worst,
            against=found.against,
            enqueue=found.enqueue,
        )
        begin("write the reports")
        write_reports(files, result, found.runs, found.nodes, candidates, reports.plot)
    return result


def _counted(progress: Progress, total: int) -> Callable[[str], None]:
    numbers = itertools.count(1)
    return lambda step: progress(step, next(numbers), total)


def _load(
    bundle: Bundle,
    threads: int,
    host_code: bool,
    inputs: Arrays | None,
    shapes: Mapping[str, Sequence[int]] | None,
    sweep: Sweep,
) -> tuple[Candidates, Arrays]:
    """The candidates and the request; both are refused before anything is timed."""
    from pagdeploy.engines.base import check_inputs
    from pagdeploy.verbs.inputs import example_shapes, made_up_inputs
    from pagdeploy.verbs.profile.candidates import load_candidates
    from pagdeploy.verbs.profile.sweep import budget_input

    candidates = load_candidates(bundle, threads=threads, host_code=host_code)
    if sweep.budgets:
        budget_input(candidates.portable)
    if inputs is None and shapes:
        inputs = made_up_inputs(candidates.portable, example_shapes(candidates.portable, shapes))
    given = bundle.arrays(SAMPLE_INPUTS) if inputs is None else inputs
    check_inputs(candidates.sessions[ENGINE].inputs, given)
    return candidates, given


def _measure(
    candidates: Candidates,
    inputs: Arrays,
    effort: Effort,
    percentiles: Sequence[float],
    sweep: Sweep,
    begin: Callable[[str], None],
) -> Measured:
    from pagdeploy.verbs.profile.candidates import Request, forced_inputs
    from pagdeploy.verbs.profile.sweep import budget_input, find_worst, forced_decisions

    seconds = effort.duration_s * len(candidates.sessions)
    begin(f"time the request, {seconds:g} s or more")
    own = candidates.decisions(inputs)
    as_it_is = Request("as it is", None, inputs, own)
    (request,), runs = candidates.measure([as_it_is], effort, percentiles)
    found = Measured(request, runs)

    if sweep.budgets:
        begin(f"time {len(sweep.budgets)} budgets, {seconds * len(sweep.budgets):g} s or more")
        name, requests = budget_input(candidates.portable), []
        for budget in sweep.budgets:
            given = {**inputs, name: np.array(budget, np.float32)}
            decided = candidates.decisions(given)
            requests.append(Request(f"budget {budget:g}", budget, given, decided))
        found.budgets, _ = candidates.measure(requests, effort, percentiles)

    begin("time the nodes")
    look_inside(candidates, inputs, own, max(effort.iterations, min(len(runs), 50)), found)

    if not (sweep.densities or sweep.worst):
        return found
    forced = candidates.forced()
    if sweep.densities:
        count = len(sweep.densities)
        begin(f"time {count} densities, {seconds * count:g} s or more")
        spread = forced_decisions(forced.gates, own, sweep.densities, sweep.texture, sweep.seed)
        found.densities, _ = forced.measure(
            [
                Request(f"density {density:g}", density, forced_inputs(inputs, decided), decided)
                for density, decided in spread
            ],
            effort,
            percentiles,
        )
    if sweep.worst:
        begin("search for the slowest decisions")
        found.worst = find_worst(forced, inputs, own, effort, percentiles, sweep)
    return found


def _notes_on_both(own: Bundle, other: Bundle, found: Measured) -> list[str]:
    from pagdeploy.measure.bootstrap import FEWEST_ROUNDS

    notes = []
    if own.manifest.source_sha256 != other.manifest.source_sha256:
        notes.append("The two bundles were built from different models.")
    if found.against is not None and found.against.speedup.rounds < FEWEST_ROUNDS:
        notes.append(
            f"{found.against.speedup.rounds} rounds are too few to tell two bundles apart; give a"
            " longer --duration."
        )
    return notes


def _notes(machine: Mapping[str, str], found: Measured, *, drawn: bool) -> list[str]:
    from pagdeploy.verbs.profile.machine import available_cores

    notes = []
    load = float(machine.get("load average before", 0))
    if load > 0.5 * available_cores():
        notes.append(
            f"The machine was busy before the measurement (load average {load:.1f}); times of"
            " a busy machine are too long, and their ratios uncertain."
        )
    if not found.request.ratio:
        notes.append("A compiled plan is timed alone; its baselines would have to be built, too.")
    if found.savings and not found.roofline:
        notes.append("The roofline is drawn for float32 alone.")
    if found.enqueue is not None and found.enqueue.bound:
        notes.append(
            f"Enqueueing takes {found.enqueue.host_ms:.3g} ms of the host, and the GPU"
            f" {found.enqueue.gpu_ms:.3g} ms: the host may hold the GPU back. A CUDA graph helps."
        )
    if any(row.kind == "perforated" and row.engine_ms == 0 for row in found.ops):
        notes.append("A convolution that takes 0 ms was fused into the next one of its gate.")
    if not drawn:
        notes.append(
            "The report has no figures, because matplotlib is not installed"
            " (pip install 'pagdeploy[report]')."
        )
    return notes
