"""Choose: what each gated region is lowered to, from its density and its cost on this machine.

A region is what the gather lowering computes together: a perforated convolution, or a chain.
Each is cut out of the model and timed alone, on the decisions that the calibration data cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.graph.choice import Choice, choose
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from pagdeploy.engines.base import Engine
    from pagdeploy.passes.gathering.regions import Region

Arrays = Mapping[str, npt.NDArray[Any]]
_SPARSE = ("gather", "gather-add")
_NEVER = 2.0  # a threshold that no density reaches
_ROUNDS, _SECONDS = 9, 1.5
_WORTH = 0.97  # a sparse form has to be this much cheaper: the whole network has other costs, too


@dataclass(frozen=True)
class RegionCost:
    """What a region costs, and what was chosen.

    Attributes:
        nodes: Names of its perforated convolutions, in order.
        density: Share of active pixels on the calibration data, the mean of all requests.
        largest: The same, of the request with most.
        costs_ms: Median latency by lowering, at the density of the first request.
        choice: What it is lowered to.
    """

    nodes: tuple[str, ...]
    density: float
    largest: float
    costs_ms: dict[str, float]
    choice: Choice


def choose_lowerings(
    portable: onnx.ModelProto,
    requests: Sequence[Arrays],
    engine: Engine,
    *,
    progress: Progress = silent,
) -> tuple[onnx.ModelProto, list[RegionCost]]:
    """Measure every region, and write the choices on a copy of the model.

    Args:
        portable: With our nodes.
        requests: Typical inputs; densities are those that they cause.
        engine: What is to run the model, and is measured with.
        progress: Told of the regions.

    Raises:
        UsageError: a request does not fit.
        BuildFailed: the engine refuses a region.
    """
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.cost import known_shapes
    from pagdeploy.graph.read import name_nodes
    from pagdeploy.ops.derive import register_schemas
    from pagdeploy.passes import fold_batch_norm, strip_bodies
    from pagdeploy.passes.gathering.regions import find_regions
    from pagdeploy.verbs.reference import run_reference

    register_schemas()
    marked = onnx.ModelProto()
    marked.CopyFrom(portable)
    name_nodes(marked)
    selections = _selections(portable, [run_reference(portable, each) for each in requests])
    module = ir.from_proto(onnx.shape_inference.infer_shapes(marked))
    for rewrite in (strip_bodies, fold_batch_norm):  # as every lowering begins
        rewrite.run(module)
    # What is decided for a whole image is skipped or dense, image by image: there is no choice.
    per_pixel = {name for name, found in selections.items() if found[0].shape[2:] != (1, 1)}
    regions = [r for r in find_regions(module) if _name(r.last.inputs[1]) in per_pixel]
    folded = ir.to_proto(module)
    _, shapes = known_shapes(folded, {name: array.shape for name, array in requests[0].items()})
    bench = _Bench(folded, shapes, engine)
    nodes = {node.name: node for node in marked.graph.node}
    costs = []
    for number, region in enumerate(regions, 1):
        progress("measure gated regions", number, len(regions))
        cost = bench.measure(region, selections[_name(region.last.inputs[1])])
        costs.append(cost)
        dense = cost.choice.lowering == "dense"
        for name in cost.nodes if dense else cost.nodes[-1:]:
            if name in nodes:
                choose(nodes[name], cost.choice)
    return marked, costs


class _Bench:
    """Times regions; those of one shape and density are measured once."""

    def __init__(
        self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], engine: Engine
    ) -> None:
        import onnx.utils

        self._shapes = shapes
        self._engine = engine
        self._extractor = onnx.utils.Extractor(model)
        self._known: dict[tuple[object, ...], tuple[dict[str, float], Choice]] = {}

    def measure(self, region: Region, selections: Sequence[npt.NDArray[np.int32]]) -> RegionCost:
        branches = [node.attributes.get_int("branch") for node in region.branches]
        densities = [float(np.isin(each, branches).mean()) for each in selections]
        key = self._key(region, densities[0])
        if key not in self._known:
            self._known[key] = self._time(region, branches, selections[0])
        costs, choice = self._known[key]
        return RegionCost(
            nodes=tuple(str(node.name) for node in region.convs),
            density=round(float(np.mean(densities)), 4),
            largest=round(max(densities), 4),
            costs_ms=costs,
            choice=choice,
        )

    def _key(self, region: Region, density: float) -> tuple[object, ...]:
        parts: list[object] = [round(density, 2)]
        for node in region.nodes:
            attributes = sorted((a.name, str(a.value)) for a in node.attributes.values())
            shapes = [tuple(self._shapes.get(_name(value), ())) for value in node.inputs]
            parts += [node.op_type, tuple(attributes), tuple(shapes)]
        return tuple(parts)

    def _time(
        self, region: Region, branches: Sequence[int], selection: npt.NDArray[np.int32]
    ) -> tuple[dict[str, float], Choice]:
        from pagdeploy.measure.timing import time_in_turn

        feeds = self._feeds(region, selection)
        full = {**feeds, _name(region.last.inputs[1]): np.full_like(selection, branches[0])}
        forms = {name: self._session(region, name, feeds) for name in ("dense", *_forms(region))}
        runs = {name: lambda s=session: s.run(feeds) for name, session in forms.items()}
        runs |= {
            f"{name}, all": lambda s=forms[name]: s.run(full) for name in forms if name != "dense"
        }
        timings = time_in_turn(runs, rounds=_ROUNDS, budget_seconds=_SECONDS)
        every = {name: round(timing.median_ms, 4) for name, timing in timings.items()}
        costs = {name: every[name] for name in forms}
        best = min(costs, key=lambda name: costs[name])
        if best == "dense" or costs[best] > _WORTH * costs["dense"]:
            return costs, Choice("dense")
        density = float(np.isin(selection, branches).mean())
        return costs, Choice(best, _crossing(density, costs[best], every[f"{best}, all"], costs))

    def _feeds(self, region: Region, selection: npt.NDArray[np.int32]) -> Arrays:
        rng = np.random.default_rng(0)
        feeds: dict[str, npt.NDArray[Any]] = {_name(region.last.inputs[1]): selection}
        for name in self._inputs(region):
            if name not in feeds:
                shape = tuple(self._shapes[name])
                feeds[name] = np.abs(rng.standard_normal(shape, np.float32))
        return feeds

    def _inputs(self, region: Region) -> list[str]:
        """What the region reads and does not make itself, weights apart."""
        made = {value for node in region.nodes for value in node.outputs}
        read = [value for node in region.nodes for value in node.inputs if value is not None]
        names = [_name(v) for v in read if v not in made and v.const_value is None]
        return list(dict.fromkeys(names))

    def _session(self, region: Region, form: str, feeds: Arrays) -> Any:
        from pagdeploy.engines.base import BuildOptions
        from pagdeploy.pipeline import lower

        model = self._extractor.extract_model(list(feeds), [_name(region.last.outputs[0])])
        if form != "dense":
            last = str(region.last.name)
            choose(next(n for n in model.graph.node if n.name == last), Choice(form, _NEVER))
        lowered = lower(model, "dense" if form == "dense" else "gather")
        built = self._engine.build(lowered.SerializeToString(), BuildOptions())
        return self._engine.load(built.content, taking_turns=True)


def _forms(region: Region) -> tuple[str, ...]:
    """The sparse forms that the region can take."""
    from pagdeploy.ops import Mode

    adds = region.last.attributes.get_int("mode") == Mode.ADD
    return _SPARSE if adds and len(region.branches) == 1 else _SPARSE[:1]


def _crossing(density: float, cost: float, full: float, costs: Mapping[str, float]) -> float:
    """The density at which the sparse form costs as much as the dense one, on a straight line."""
    if full <= costs["dense"] or density >= 1:
        return 1.0
    slope = (full - cost) / (1 - density)
    return round(min(1.0, max(density, density + (costs["dense"] - cost) / slope)), 3)


def _selections(
    portable: onnx.ModelProto, answers: Sequence[Arrays]
) -> dict[str, list[npt.NDArray[np.int32]]]:
    from pagdeploy.graph.gates import gates_of

    return {
        gate.selection: [answer[gate.selection] for answer in answers]
        for gate in gates_of(portable)
    }


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)
