"""A budget as an input of the network: how dear it is to compute a pixel, frame by frame.

The budget is added to the score of skipping in front of every binary gate. At 0 the network decides
as it was trained to; the larger the budget, the fewer pixels are computed. It counts in the unit of
what the gate compares: scores, or probabilities where the model compares those.

Gates with more than two branches are left alone, and so are gates both of whose branches compute:
neither has a branch that skips. Of our own modules branch 0 skips.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from pagdeploy.errors import UsageError
from pagdeploy.exporters.portable import our_nodes

_PARTS = ("skips", "skips_1")  # names of what belongs to gates whose branch 0, 1 skips
METADATA = "pagdeploy.budget_input"  # of the model: which of its inputs is the budget
_log = logging.getLogger("pagdeploy.exporters")


def add_budget(model: ir.Model, name: str, skips: Mapping[str, int | str] | None = None) -> int:
    """Give the model a budget input, float32 and of rank 0; returns the number of gates it moves.

    What a gate reads is still called `<gate>.logits`; what its head says, `<gate>.scores`. The
    budget is placed by Where, not Mul, so that an infinite one leaves the other score as it is.

    Args:
        model: After `portable.name_after_modules`; or any in our ops, its shapes inferred.
        name: Of the new input.
        skips: For each gate the branch that skips, or why it has no budget. Default: branch 0,
            unless a convolution computes for it.

    Raises:
        UsageError: the name is taken or empty, or no gate can skip.
    """
    gates: dict[ir.Node, int] = {}
    for node in our_nodes(model):
        if node.op_type == "PAGGate":
            skip = _skipping(node) if skips is None else skips.get(str(node.name), _skipping(node))
            if isinstance(skip, int) and (why_not := _misfit(node)) is not None:
                skip = why_not
            if isinstance(skip, int):
                gates[node] = skip
            else:
                _log.info("%s (PAGGate) has no budget: %s", node.name, skip)
    if not gates:
        raise UsageError(
            "The model has no gate with two branches, of which one skips.",
            remedy="Leave --budget-input out.",
        )
    if not name or _taken(model) & {name, *(f"{name}.{part}" for part in (*_PARTS, "zero"))}:
        raise UsageError(
            f"The name {name!r} of the budget input is taken or empty.",
            remedy="Choose another, such as --budget-input budget.",
        )
    budget = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    model.graph.inputs.append(budget)
    zero = _constant(model, f"{name}.zero", np.zeros((), np.float32))
    offsets: dict[tuple[int, ir.DataType], ir.Value] = {}
    first = model.graph[0]
    for skip in sorted(set(gates.values())):
        part = _PARTS[skip]
        flags = np.arange(2).reshape(1, 2, 1, 1) == skip
        which = _constant(model, f"{name}.{part}", flags)
        by_branch = ir.node("Where", [which, budget, zero], name=f"{name}.by_{part}")
        by_branch.outputs[0].name = by_branch.name  # (1, 2, 1, 1)
        model.graph.insert_before(first, by_branch)
        offsets[skip, ir.DataType.FLOAT] = by_branch.outputs[0]
    for gate, skip in gates.items():
        scores = gate.inputs[0]
        assert scores is not None and scores.dtype is not None, "_misfit asked for them"
        if (skip, scores.dtype) not in offsets:
            wide = offsets[skip, ir.DataType.FLOAT].producer()
            assert wide is not None, "it is a Where"
            offsets[skip, scores.dtype] = _cast(wide, scores.dtype)
        total = ir.node("Add", [scores, offsets[skip, scores.dtype]], name=f"{gate.name}.budget")
        total.metadata_props.update(gate.metadata_props)
        logits = total.outputs[0]  # (N, 2, H, W)
        logits.type, logits.shape = scores.type, scores.shape
        logits.name = f"{gate.name}.logits"
        if scores.name == logits.name:
            scores.name = f"{gate.name}.scores"
        assert gate.graph is not None, "the gate was found in a graph"
        gate.graph.insert_before(gate, total)
        gate.replace_input_with(0, logits)
    NameFixPass()(model)
    model.metadata_props[METADATA] = name
    return len(gates)


def _skipping(gate: ir.Node) -> int | str:
    """The branch that skips if a gate is one of our modules, or why there is none."""
    if why_not := _misfit(gate):
        return why_not
    computes = any(node.attributes.get_int("branch", -1) == 0 for node, _ in gate.outputs[0].uses())
    return "its branch 0 computes" if computes else 0


def _misfit(gate: ir.Node) -> str | None:
    logits = gate.inputs[0]
    if logits is None or logits.shape is None or logits.dtype is None:
        return "the shape of its logits is unknown"
    branches = logits.shape[1]
    return None if branches == 2 else f"it chooses among {branches} branches"


def _taken(model: ir.Model) -> set[str]:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    values = {str(value.name) for node in nodes for value in node.outputs}
    values |= {str(value.name) for value in model.graph.inputs}
    return values | set(model.graph.initializers)


def _constant(model: ir.Model, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    value = ir.Value(name=name, type=kind, shape=shape, const_value=tensor)
    model.graph.register_initializer(value)
    return value


def _cast(by_branch: ir.Node, dtype: ir.DataType) -> ir.Value:
    """The offsets in the type of a gate whose features are of 16 bits."""
    source = by_branch.outputs[0]
    cast = ir.node("Cast", [source], {"to": int(dtype)}, name=f"{source.name}.{dtype.name.lower()}")
    cast.outputs[0].name = cast.name
    assert by_branch.graph is not None, "it was inserted"
    by_branch.graph.insert_after(by_branch, cast)
    return cast.outputs[0]
