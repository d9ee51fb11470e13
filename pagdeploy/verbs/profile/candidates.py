"""The engine and its baselines, loaded side by side, and what they are timed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import MODEL, Bundle
from pagdeploy.engines import engine_named
from pagdeploy.measure.latency import Effort, Latency, Run, run_in_turn, summarize
from pagdeploy.verbs.profile.result import ENGINE, MASKED, PLAIN, Point
from pagdeploy.verbs.session import op_libraries, open_session

if TYPE_CHECKING:
    import onnx

    from pagdeploy.engines.base import Session
    from pagdeploy.manifest import GateInfo

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Request:
    """Something to be timed.

    Attributes:
        label: What to call it.
        asked: The density or budget that was asked for.
        inputs: By name; forced selections among them.
        decisions: What the gates decide on them, by the selection's name.
    """

    label: str
    asked: float | None
    inputs: Arrays
    decisions: Arrays


@dataclass(frozen=True)
class Candidates:
    """Models and sessions by candidate.

    Attributes:
        portable: What all were made from.
        perforated: The model as the passes leave it before it is lowered: with our nodes, also
            where a pass found that a plain convolution is read at some pixels only.
        twin: The portable model without its gates.
        gates: That decide something.
        models: ENGINE, MASKED and PLAIN; a plan is no model, so there it is MASKED alone.
        sessions: What is timed.
        threads: Inside one operator; 0 is one per core.
        flavour: Name of the engine.
        libraries: Of our onnxruntime ops, for the models that need them.
        precision: Of the engine.
    """

    portable: onnx.ModelProto
    perforated: onnx.ModelProto
    twin: onnx.ModelProto
    gates: Sequence[GateInfo]
    models: Mapping[str, onnx.ModelProto]
    sessions: Mapping[str, Session]
    threads: int
    flavour: str
    libraries: Sequence[Path] = ()
    precision: str = "fp32"

    def decisions(self, inputs: Arrays) -> dict[str, npt.NDArray[np.int32]]:
        """Every gate's selection on these inputs, (N, 1, H, W), by the selection's name."""
        from pagdeploy.engines.ort import OnnxRuntimeEngine
        from pagdeploy.graph.gates import expose

        names = [gate.selection for gate in self.gates]
        shown = expose(self.models.get(ENGINE, self.models[MASKED]), names)
        content = shown.SerializeToString()
        session = OnnxRuntimeEngine().load(content, plugins=_needed(content, self.libraries))
        answers = _run_on(session, inputs)()
        return {name: answers[name] for name in names}

    def shares(self, inputs: Arrays, decisions: Arrays) -> dict[str, list[float]]:
        """The share of each branch in every selection that `selections` gives."""
        branches = {gate.selection: len(gate.density) for gate in self.gates}
        return {
            name: branch_shares(selection, branches.get(name, 2))
            for name, selection in self.selections(inputs, decisions).items()
        }

    def selections(self, inputs: Arrays, decisions: Arrays) -> dict[str, npt.NDArray[np.int32]]:
        """Those of the gates, and others that a convolution of `perforated` reads, by name.

        Args:
            inputs: By name.
            decisions: Of the gates on them; what passes made of these is computed.
        """
        from onnx.numpy_helper import to_array

        from pagdeploy.graph.gates import expose, force_selections
        from pagdeploy.ops.bodies import attach_bodies
        from pagdeploy.verbs.proof import run_lowered

        branches = [gate.selection for gate in self.gates]
        read = {node.input[1] for node in perforated_convolutions(self.perforated)}
        constant = {
            c.name: to_array(c) for c in self.perforated.graph.initializer if c.name in read
        }
        derived = sorted(read - set(branches) - set(constant))
        selections = {**decisions, **constant}
        if derived:
            whole = expose(attach_bodies(self.perforated), derived)
            answers = run_lowered(force_selections(whole, branches), {**inputs, **decisions})
            selections |= {name: answers[name] for name in derived}
        return selections

    def forced(self) -> Candidates:
        """The same, with each selection as a further input, so that decisions can be given.

        The inputs are called as `forced_inputs` says; the gates still run, and are waited for.
        """
        from pagdeploy.graph.steer import steer

        names = [gate.selection for gate in self.gates]
        models = {
            name: model if name == PLAIN else steer(model, names)
            for name, model in self.models.items()
        }
        loaded = _load(models, self.flavour, self.threads, self.libraries, but=PLAIN)
        return replace(self, models=models, sessions={**self.sessions, **loaded})

    def measure(
        self, requests: Sequence[Request], effort: Effort, percentiles: Sequence[float]
    ) -> tuple[list[Point], list[Run]]:
        """Time every request on every session, all in turn, so that all meet the same machine.

        Args:
            requests: At least one.
            effort: How long to measure each of them on each session.
            percentiles: To report.

        Returns:
            One point a request; and the engine's runs of the first one.
        """
        runs = run_in_turn(
            {
                (number, name): _run_on(session, request.inputs)
                for number, request in enumerate(requests)
                for name, session in self.sessions.items()
            },
            effort,
        )
        points = []
        for number, request in enumerate(requests):
            latency = {n: summarize(runs[number, n], percentiles) for n in self.sessions}
            points.append(self._point(request, latency))
        return points, runs[0, ENGINE]

    def _point(self, request: Request, latency: dict[str, Latency]) -> Point:
        shares = self.shares(request.inputs, request.decisions)
        gates = {gate.name: shares[gate.selection] for gate in self.gates}
        active = [share[1] for share in gates.values() if len(share) == 2]
        median = latency[ENGINE].median_ms
        return Point(
            label=request.label,
            asked=request.asked,
            density=float(np.mean(active)) if active else 1.0,
            gates=gates,
            latency=latency,
            ratio={n: found.median_ms / median for n, found in latency.items() if n != ENGINE},
            ceiling=self._ceiling(request.inputs, shares),
        )

    def _ceiling(self, inputs: Arrays, shares: Mapping[str, list[float]]) -> dict[str, float]:
        from pagdeploy.graph.cost import count_cost

        sizes = {name: array.shape for name, array in inputs.items()}
        cost = count_cost(self.perforated, sizes, shares)
        plain = count_cost(self.twin, sizes, {}).dense
        dense = {MASKED: cost.dense, PLAIN: plain}
        return {n: macs / cost.sparse if cost.sparse else 1.0 for n, macs in dense.items()}


def load_candidates(bundle: Bundle, *, threads: int, host_code: bool) -> Candidates:
    """Make the baselines and load everything.

    Args:
        bundle: Opened.
        threads: Inside one operator, on a CPU; 0 takes one per core.
        host_code: Let a plan that holds code of its own run it here.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `open_session`.
    """
    from pagdeploy.graph.read import name_nodes, read_model
    from pagdeploy.pipeline import lower
    from pagdeploy.verbs.profile.dense_twin import open_gates
    from pagdeploy.verbs.rounding import built_precision

    info = bundle.manifest.engine
    # First: a runtime or a GPU that is missing is said before anything is lowered.
    session = open_session(bundle, threads=threads, host_code=host_code)
    libraries = op_libraries(bundle, host_code)
    portable = read_model(bundle.file(MODEL))
    name_nodes(portable)  # as lowering does, so that nodes are found again
    perforated = lower(portable, "plugin")
    twin = open_gates(portable)
    precision = built_precision(bundle)
    kept = _found_in(twin, precision.keep_fp32)
    models = {MASKED: lower(portable, "dense", precision=precision)}
    sessions: dict[str, Session] = {ENGINE: session}
    if info.plan is None:
        models = {ENGINE: read_model(bundle.file(info.file)), **models}
        models[PLAIN] = lower(twin, "dense", precision=replace(precision, keep_fp32=kept))
        sessions = _load(models, info.flavour, threads, libraries)
    made = {name for node in models.get(ENGINE, models[MASKED]).graph.node for name in node.output}
    gates = [gate for gate in bundle.manifest.gates if gate.selection in made]
    return Candidates(
        portable,
        perforated,
        twin,
        gates,
        models,
        sessions,
        threads,
        info.flavour,
        libraries,
        info.precision,
    )


def load_engine(bundle: Bundle, *, threads: int, host_code: bool) -> Session:
    """A bundle's engine alone, to be timed in turn with others.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `open_session`.
    """
    from pagdeploy.graph.read import read_model

    info = bundle.manifest.engine
    session = open_session(bundle, threads=threads, host_code=host_code)
    if info.plan is not None:
        return session
    models = {ENGINE: read_model(bundle.file(info.file))}
    return _load(models, info.flavour, threads, op_libraries(bundle, host_code))[ENGINE]


def forced_inputs(inputs: Arrays, decisions: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Inputs of what `Candidates.forced` makes: the network's own, and a decision for each gate."""
    from pagdeploy.graph.steer import FORCED

    return {**inputs, **{name + FORCED: array for name, array in decisions.items()}}


def perforated_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The PerforatedConv nodes of the main graph, in order."""
    from pagdeploy.ops import DOMAIN

    return [n for n in model.graph.node if n.domain == DOMAIN and n.op_type == "PerforatedConv"]


def branch_shares(selection: npt.NDArray[np.int32], branches: int) -> list[float]:
    """The share of each branch in a selection."""
    counts = np.bincount(selection.ravel(), minlength=branches)
    return [float(count) / max(1, selection.size) for count in counts]


def _load(
    models: Mapping[str, onnx.ModelProto],
    flavour: str,
    threads: int,
    libraries: Sequence[Path],
    but: str = "",
) -> dict[str, Session]:
    engine = engine_named(flavour)
    loaded: dict[str, Session] = {}
    for name, model in models.items():
        if name != but:
            content = model.SerializeToString()
            plugins = _needed(content, libraries)
            loaded[name] = engine.load(content, plugins=plugins, threads=threads, taking_turns=True)
    return loaded


def _needed(content: bytes, libraries: Sequence[Path]) -> Sequence[Path]:
    """The libraries, if a model needs them: the baselines run as they do without."""
    from pagdeploy.engines.ort_native import needs_library

    return libraries if needs_library(content) else ()


def _run_on(session: Session, inputs: Arrays) -> Callable[[], dict[str, npt.NDArray[Any]]]:
    wanted = [info.name for info in session.inputs]
    taken = {name: inputs[name] for name in wanted if name in inputs}
    return lambda: session.run(taken)


def _found_in(model: onnx.ModelProto, patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns of --keep-fp32 that name a node; the twin has no gates to name."""
    import onnx_ir as ir

    from pagdeploy.graph.islands import names_of
    from pagdeploy.graph.search import search

    names = [name for node in ir.from_proto(model).graph for name in names_of(node)]
    hits = search(patterns, names)
    return tuple(p for p, hit in zip(patterns, hits, strict=True) if hit)
