"""Layers, and the first fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pagdeploy.report.html import details, escape, facts, note, paragraph, table
from pagdeploy.verbs.verify_page.numbers import comparisons, verdict

if TYPE_CHECKING:
    from pagdeploy.report.html import Html
    from pagdeploy.verbs.proof import Verification


def fault(result: Verification) -> Iterator[object]:
    """What was found by bisection, if that was asked for."""
    if result.builds is None:
        return
    found = result.fault
    if found is None:
        yield paragraph(f"None was found, with {result.builds} engines built to look for it.")
        return
    yield note(found.reason)
    yield facts(
        {
            "value": found.value,
            "nodes of the reference": _nodes(found.nodes),
            "nodes of the engine": _nodes(found.engine_nodes),
            "engines built to find it": found.builds,
        }
    )


def layers(result: Verification) -> Iterator[object]:
    """Every layer, if that was asked for."""
    judged = result.layers
    yield comparisons(
        "The model as the lowering saw it, held to the portable one", result.recognition
    )
    if not judged:
        return
    yield paragraph(
        "A layer ends at a value that reference and engine both compute by name. Its own error is"
        " what it makes of the reference's inputs; its drift is its error in the running engine,"
        " all earlier layers included."
    )
    yield table(
        ["", "value", "own error", "bound", "drift", "bound of drift", "largest value",
         "not finite", "saturated", "verdict", "nodes", "nodes of the engine"],
        [
            [
                number,
                layer.value,
                layer.own.error,
                layer.own.bound,
                "" if layer.drift is None else layer.drift.error,
                "" if layer.drift is None else layer.drift.bound,
                layer.largest,
                layer.not_finite,
                layer.saturated,
                verdict(layer.own),
                _nodes(layer.nodes),
                _nodes(layer.engine_nodes),
            ]
            for number, layer in enumerate(judged, 1)
        ],
    )  # fmt: skip


def _nodes(nodes: Sequence[str]) -> Html:
    if len(nodes) < 3:
        return escape(", ".join(nodes))
    return details(f"{len(nodes)} nodes", ", ".join(nodes))
