"""Requests whose density is chosen: by forced decisions, or by the network's own budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import UsageError
from pagdeploy.measure.textures import make_selection
from pagdeploy.verbs.profile.candidates import branch_shares

if TYPE_CHECKING:
    import onnx

    from pagdeploy.manifest import GateInfo

Arrays = Mapping[str, npt.NDArray[Any]]


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
