"""Model-local functions of others, put in place of their calls so that passes see into them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagdeploy.ops import DOMAIN

if TYPE_CHECKING:
    import onnx

Key = tuple[str, str]
_log = logging.getLogger("pagdeploy.passes")
_STANDARD = ("", "ai.onnx")
MOST_NODES = 2**17  # that all calls come to: functions that call functions double fast


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the calls of model-local functions replaced by their bodies.

    Bodies of our ops stay, as do functions that call themselves, that stand for an operator of
    ONNX, or that are written for another version of an operator set than the model. Values of the
    main graph keep their names.

    Args:
        model: Valid, or the functions stay.

    Returns:
        A new model; the same object if nothing can be inlined.
    """
    # An import of onnx alone does not bring this module.
    import onnx.inliner

    chosen = _inlinable(model)
    if not chosen:
        return model
    names = sorted({(function.domain, function.name) for function in chosen})
    try:
        inlined = onnx.inliner.inline_selected_functions(model, names)
    except Exception as problem:  # the inliner raises several types of its own
        _log.info("No gates are looked for in functions: they cannot be inlined (%s)", problem)
        return model
    versions = {_domain(each.domain): each.version for each in model.opset_import}
    for function in chosen:
        for each in function.opset_import:
            if _domain(each.domain) not in versions:
                versions[each.domain] = each.version
                inlined.opset_import.add(domain=each.domain, version=each.version)
    _log.info("%d functions are inlined: %s", len(names), ", ".join(name for _, name in names))
    return inlined


def _inlinable(model: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """The functions whose calls can be replaced; none if that would make too many nodes."""
    versions = {_domain(each.domain): each.version for each in model.opset_import}
    fitting = []
    for function in model.functions:
        imports = {_domain(each.domain): each.version for each in function.opset_import}
        fits = all(versions.setdefault(name, number) == number for name, number in imports.items())
        if fits and function.domain not in (*_STANDARD, DOMAIN):
            fitting.append(function)
    if len({(function.domain, function.name) for function in fitting}) < len(fitting):
        return []  # overloads, which the inliner is not told apart
    count = nodes_of_calls(model, fitting)
    if count is None or count > MOST_NODES:
        _log.info("No gates are looked for in functions: they call too many others, or themselves")
        return []
    return fitting if count else []


def nodes_of_calls(
    model: onnx.ModelProto, functions: Iterable[onnx.FunctionProto] | None = None
) -> int | None:
    """How many nodes the main graph's calls of functions come to, calls inside of them included.

    Args:
        model: Owns the functions.
        functions: Those to count; all by default.

    Returns:
        None if a function calls itself.
    """
    calls: dict[Key, list[Key]] = {}
    for function in model.functions if functions is None else functions:
        called = calls.setdefault((function.domain, function.name), [])
        called += [(node.domain, node.op_type) for node in _nodes(function.node)]
    counts: dict[Key, int] = {}
    opened: set[Key] = set()
    pending = list(calls)
    while pending:
        key = pending[-1]
        waiting = [each for each in calls[key] if each in calls and each not in counts]
        if waiting and key in opened:
            return None
        if waiting:
            opened.add(key)
            pending += dict.fromkeys(waiting)
            continue
        counts[key] = max(1, sum(counts.get(each, 1) for each in calls[key]))
        pending.pop()
    return sum(counts.get((node.domain, node.op_type), 0) for node in _nodes(model.graph.node))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """These nodes and those of the graphs inside of them."""
    found: list[onnx.NodeProto] = []
    pending = [nodes]
    while pending:
        for node in pending.pop():
            found.append(node)
            for attribute in node.attribute:
                pending += [graph.node for graph in (attribute.g, *attribute.graphs)]
    return found


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
