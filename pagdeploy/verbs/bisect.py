"""Bisect: the first layer of an engine that is wrong, in a logarithmic number of builds.

The engine is cut where the values that are alive, together, hold all that the rest needs. If those
agree with the reference's, the fault lies behind the cut, else before it; so a fault beside the
path to one output is not passed over. The layer that is found is then run alone on the reference's
inputs: if it is within the bound of its own operators, its error came from the layers before it,
and the search goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from pagdeploy.check.compare import Comparison, compare
from pagdeploy.graph.cut import alive
from pagdeploy.verbs.layers import Layer, LayerView

ALONE = " on the reference's inputs"
_EXCUSED = 3  # layers that are let off before the first of them is named


@dataclass(frozen=True)
class Fault:
    """The first node of the engine that is wrong.

    Attributes:
        nodes: Of the reference, as "name (operator)"; what they compute, the engine does not.
        engine_nodes: Of the engine, which stand for them.
        value: That they compute.
        reason: What is wrong with it, in one sentence.
        builds: Engines that were built to find it.
        layer: The layer on the reference's inputs; None of a gate.
    """

    nodes: tuple[str, ...]
    engine_nodes: tuple[str, ...]
    value: str
    reason: str
    builds: int
    layer: Layer | None = None


def first_fault(
    view: LayerView, on_build: Callable[[int], None] | None = None
) -> tuple[Fault | None, int]:
    """The first layer that is wrong, if any is, and how many engines were built."""
    search = _Search(view, on_build)
    return search.run(), search.builds


class _Search:
    def __init__(self, view: LayerView, on_build: Callable[[int], None] | None) -> None:
        self._view, self._on_build = view, on_build
        self._excused: set[str] = set()
        self.builds = 0

    def run(self) -> Fault | None:
        order, first = self._view.values, -1  # values up to `first` agree
        found: Fault | None = None
        while len(self._excused) <= _EXCUSED:
            if not self._wrong(first, len(order) - 1):
                return found
            low, high = first, len(order) - 1  # the cut at `low` agrees, the one at `high` does not
            while high - low > 1:
                middle = (low + high) // 2
                if self._wrong(low, middle):
                    high = middle
                else:
                    low = middle
            name = order[high]
            layer = self._alone(name)
            if not layer.own.passed:
                return self._fault(layer, None)
            drift = self._drifts([name])[0]
            found = found or self._fault(layer, drift)
            self._excused.add(name)
            first = high
        return found

    def _wrong(self, low: int, high: int) -> bool:
        """Whether something that is alive behind `high`, and is made behind `low`, is wrong."""
        order = self._view.values
        made = set(order[low + 1 : high + 1]) - self._excused
        living = alive(self._view.engine, order[: high + 1], self._view.watched)
        names = [name for name in living if name in made]
        return bool(names) and not all(c.passed for c in self._drifts(names))

    def _drifts(self, names: Sequence[str]) -> list[Comparison]:
        self._built()
        got, told = self._view.running(names), self._view.told({*names})
        return [compare(name, got[name], told[name], *self._view.bounds) for name in names]

    def _alone(self, name: str) -> Layer:
        self._built()
        return self._view.layer(name)

    def _built(self) -> None:
        self.builds += 1
        if self._on_build:
            self._on_build(self.builds)

    def _fault(self, layer: Layer, drift: Comparison | None) -> Fault:
        if drift is None:
            why = f"{layer.own.describe(ALONE)}{cause(layer)}"
        else:
            why = f"{drift.describe()}, though no layer alone does: the errors of several add up"
        return Fault(
            nodes=layer.nodes,
            engine_nodes=layer.engine_nodes,
            value=layer.value,
            reason=f"{_few(layer.nodes)} computes {layer.value!r}, which {why}.",
            builds=self.builds,
            layer=layer,
        )


def cause(layer: Layer) -> str:
    """What its numbers say of why a layer errs, as the end of a sentence; mostly nothing."""
    if layer.not_finite:
        return f", with {layer.not_finite} NaNs or infinities where the reference has numbers"
    if isfinite(layer.saturated) and layer.saturated:
        return f", with {layer.saturated:.2%} of it beyond float16"
    return ""


def _few(nodes: Sequence[str]) -> str:
    shown = ", ".join(nodes[:3])
    return shown if len(nodes) <= 3 else f"{shown} and {len(nodes) - 3} more"
