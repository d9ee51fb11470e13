"""Doc strings for whoever opens a model in a viewer: what a gate decides, what nodes became, why.

A lowered node bears the name of the node that it is made from, with its own behind a slash, so what
is known of the one can be said at the first of the others. What a model says already stays.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagdeploy.graph.choice import lowerings_of
from pagdeploy.graph.gates import gates_of
from pagdeploy.graph.read import graphs_of
from pagdeploy.ops import DOMAIN, Mode

if TYPE_CHECKING:
    import onnx

_HARDENED = "pagdeploy.hardened"  # of a model: a JSON list of names
_LOWERING = "pagdeploy.lowering"


@dataclass(frozen=True)
class Told:
    """What a build knows of a model.

    Attributes:
        densities: Share of each branch on the sample, by gate.
        reasons: Why a PerforatedConv is lowered as it is, a clause by its name.
    """

    densities: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def hardened_gates(model: onnx.ModelProto) -> list[str]:
    """The names of the gates that were soft mixtures, as the model says."""
    noted = {entry.key: entry.value for entry in model.metadata_props}
    try:
        names = json.loads(noted.get(_HARDENED, "[]"))
    except (ValueError, RecursionError):
        return []
    return [name for name in (names if isinstance(names, list) else []) if isinstance(name, str)]


def note_hardened(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Write down which gates were soft mixtures, beside those that it says already."""
    known = list(dict.fromkeys([*hardened_gates(model), *names]))
    kept = [entry for entry in model.metadata_props if entry.key != _HARDENED]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=_HARDENED, value=json.dumps(known))


def describe(
    model: onnx.ModelProto, portable: onnx.ModelProto | None = None, told: Told | None = None
) -> None:
    """Write doc strings on a model, its graph, gates, perforated convolutions and what they became.

    Args:
        model: In our ops, or lowered; changed in place.
        portable: In our ops, what it was lowered from; default: itself.
        told: What is known of it from a build.
    """
    source, known = portable or model, told or Told()
    docs = {**_of_gates(source, known), **_of_convolutions(source, known)}
    before = {**_of_gates(source, Told()), **_of_convolutions(source, Told())}
    became = lowerings_of(model)
    for name, lowering in became.items():
        because = f": {known.reasons[name]}" if name in known.reasons else ""
        docs[name] = f"{docs.get(name, '')} Lowered to {lowering}{because}.".strip()
    said: set[str] = set()
    for node in (node for graph in graphs_of(model) for node in graph.node):
        origin = _origin(node.name, docs)
        if origin is None or origin in said:  # the first one tells; files hardly grow
            continue
        said.add(origin)
        if node.doc_string in ("", before.get(origin)):  # an export did not know all yet
            node.doc_string = docs[origin]
        if origin in became:
            _note(node, _LOWERING, became[origin])
    _of_the_whole(model, source, became)


def _of_gates(model: onnx.ModelProto, told: Told) -> dict[str, str]:
    docs = {}
    readers = _readers(model)
    for gate in gates_of(model):
        shares = told.densities.get(gate.name, ())
        found = readers.get(gate.selection, [])
        parts = [
            f"Gate: each pixel takes the branch with the largest of its scores in {gate.logits!r};"
            " the lowest index wins a tie."
        ]
        if found:
            parts.append(
                f"It decides for {', '.join(found[:4])}{' ...' if len(found) > 4 else ''}."
            )
        if shares:
            listed = ", ".join(f"{branch}: {share:.3f}" for branch, share in enumerate(shares))
            parts.append(f"Share of each branch on the sample: {listed}.")
        docs[gate.name] = " ".join(parts)
    return docs


def _of_convolutions(model: onnx.ModelProto, told: Told) -> dict[str, str]:
    gates = {gate.selection: gate.name for gate in gates_of(model)}
    docs = {}
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type != "PerforatedConv":
            continue
        values = {attribute.name: attribute.i for attribute in node.attribute}
        branch = values["branch"]
        gate = gates.get(node.input[1], node.input[1])
        shares = told.densities.get(gate, ())
        share = f", {shares[branch]:.1%} of the sample" if 0 <= branch < len(shares) else ""
        adds = values["mode"] == Mode.ADD
        docs[node.name] = (
            f"Convolution where {gate!r} takes branch {branch}{share};"
            f" {'added to' if adds else 'elsewhere'} {node.input[4]!r}."
        )
    return docs


def _of_the_whole(
    model: onnx.ModelProto, source: onnx.ModelProto, became: Mapping[str, str]
) -> None:
    gates = len(gates_of(source))
    convolutions = sum(
        node.domain == DOMAIN and node.op_type == "PerforatedConv" for node in source.graph.node
    )
    writer = f"{model.producer_name} {model.producer_version}".strip() or "an unnamed exporter"
    what = f"{gates} gates, {convolutions} perforated convolutions"
    if not model.doc_string:
        model.doc_string = f"Pixel-gated network: {what}. Written by {writer}."
    if became and not model.graph.doc_string:
        counts = sorted(Counter(became.values()).items())
        model.graph.doc_string = (
            f"Of {convolutions} perforated convolutions"
            f" {', '.join(f'{count} became {lowering}' for lowering, count in counts)}."
        )


def _readers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the nodes of ours that read each selection."""
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type != "PAGGate":
            for value in node.input[1:2]:
                found.setdefault(value, []).append(node.name)
    return found


def _origin(name: str, docs: Mapping[str, str]) -> str | None:
    """The described node that a node is, or was made from."""
    while name:
        if name in docs:
            return name
        name = name.rpartition("/")[0]
    return None


def _note(node: onnx.NodeProto, key: str, value: str) -> None:
    if all(entry.key != key for entry in node.metadata_props):
        node.metadata_props.add(key=key, value=value)
