"""Requests whose density is chosen: by forced decisions, or by the network's own budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import UsageError
from pagdeploy.measure.latency import Effort
from pagdeploy.measure.textures import TEXTURES, make_selection
from pagdeploy.verbs.profile.candidates import Candidates, Request, branch_shares, forced_inputs
from pagdeploy.verbs.profile.request import Sweep
from pagdeploy.verbs.profile.result import ENGINE, Worst

if TYPE_CHECKING:
    import onnx

    from pagdeploy.manifest import GateInfo

Arrays = Mapping[str, npt.NDArray[Any]]
# Between these a sparse kernel leaves its cheapest path, and a switch goes over to the dense one.
_WORST = (0.25, 0.5, 0.75)


def forced_decisions(
    gates: Sequence[GateInfo], own: Arrays, densities: Sequence[float], texture: str, seed: int
) -> Iterator[tuple[float, dict[str, npt.NDArray[np.int32]]]]:
    """For each density, a selection for every gate.

    A gate with two branches computes that share of its pixels; one with more keeps the shares of
    its own decisions, spread anew. Denser selections hold the pixels of sparser ones.

    Args:
        gates: To be forced.
        own: What they decide by themselves, by the selection's name.
        densities: Each between 0 and 1.
        texture: How the pixels are spread.
        seed: Of the noise.
    """
    for density in densities:
        forced = {}
        for number, gate in enumerate(gates):
            selection = own[gate.selection]
            n, _, height, width = selection.shape
            branches = len(gate.density)
            kept = branch_shares(selection, branches)
            shares = [1 - density, density] if branches == 2 else kept
            rng = np.random.default_rng([seed, number])
            forced[gate.selection] = make_selection(texture, (n, height, width), shares, rng)
        yield density, forced


def budget_input(portable: onnx.ModelProto) -> str:
    """Name of the input that `export --budget-input` added.

    Raises:
        UsageError: there is none.
    """
    inputs = {value.name for value in portable.graph.input}
    for noted in portable.metadata_props:
        if noted.key == "pagdeploy.budget_input" and noted.value in inputs:
            return str(noted.value)
    raise UsageError(
        "The model has no budget input.",
        remedy="Export it with --budget-input NAME, and build it again.",
    )


def find_worst(
    forced: Candidates,
    inputs: Arrays,
    own: Arrays,
    effort: Effort,
    percentiles: Sequence[float],
    sweep: Sweep,
) -> Worst:
    """The slowest of many forced decisions: every texture at several densities, and all active.

    It is the slowest of what was tried, and no bound: others may be slower.

    Args:
        forced: As `Candidates.forced` makes them.
        inputs: The network's own.
        own: What its gates decide on them.
        effort: For each decision.
        percentiles: To report.
        sweep: Whose seed is taken.
    """
    # Its own decisions take turns with the others, so that a disturbance meets both.
    requests = [Request("as it is", None, forced_inputs(inputs, own), own)]
    textures = {}
    for texture in TEXTURES:
        densities = _WORST if texture != next(iter(TEXTURES)) else (*_WORST, 1.0)
        spread = forced_decisions(forced.gates, own, densities, texture, sweep.seed)
        for density, decided in spread:
            label = f"{texture} {density:g}" if density < 1 else "all active"
            textures[label] = texture if density < 1 else ""
            requests.append(Request(label, density, forced_inputs(inputs, decided), decided))
    (request, *points), _ = forced.measure(requests, effort, percentiles)
    slowest = max(points, key=lambda point: point.latency[ENGINE].median_ms)
    least = {
        name: min((point.ratio[name], point.label) for point in points) for name in slowest.ratio
    }
    return Worst(
        point=slowest,
        texture=textures[slowest.label],
        over_request=slowest.latency[ENGINE].median_ms / request.latency[ENGINE].median_ms,
        least_ratio=least,
        tried=[point.label for point in points],
    )
