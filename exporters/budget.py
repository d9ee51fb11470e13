"""A budget as an input of the network: how dear it is to compute a pixel, frame by frame.

The budget is added to the score of skipping (branch 0) in front of every binary gate. At 0 the
network decides as it was trained to; the larger the budget, the fewer pixels are computed.

Gates with more than two branches are left alone, and so are gates one of whose convolutions
computes branch 0: neither has a branch that skips.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from pagdeploy.errors import UsageError
from pagdeploy.exporters.portable import our_nodes

METADATA = "pagdeploy.budget_input"  # of the model: which of its inputs is the budget
_log = logging.getLogger("pagdeploy.exporters")


def add_budget(model: ir.Model, name: str) -> int:
    """Give the model a budget input, float32 and of rank 0; returns the number of gates it moves.

    What a gate reads is still called `<gate>.logits`; what its head says, `<gate>.scores`. The
    budget is placed by Where, not Mul, so that an infinite one leaves the other score as it is.

    Args:
        model: After `portable.name_after_modules`.
        name: Of the new input.

    Raises:
        UsageError: the name is taken or empty, or no gate can skip.
    """
    gates = [node for node in our_nodes(model) if node.op_type == "PAGGate" and _can_skip(node)]
    if not gates:
        raise UsageError(
            "The model has no gate with two branches, of which one skips.",
            remedy="Leave --budget-input out.",
        )
    constants = f"{name}.skips", f"{name}.zero"
    if not name or _taken(model) & {name, *constants}:
        raise UsageError(
            f"The name {name!r} of the budget input is taken or empty.",
            remedy="Choose another, such as --budget-input budget.",
        )
    budget = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    model.graph.inputs.append(budget)
    skips = _constant(model, constants[0], np.array([True, False]).reshape(1, 2, 1, 1))
    zero = _constant(model, constants[1], np.zeros((), np.float32))
    by_branch = ir.node("Where", [skips, budget, zero], name=f"{name}.by_branch")
    by_branch.outputs[0].name = by_branch.name  # (1, 2, 1, 1)
    model.graph.insert_before(model.graph[0], by_branch)
    offsets = {ir.DataType.FLOAT: by_branch.outputs[0]}
    for gate in gates:
        scores = gate.inputs[0]
        assert scores is not None and scores.dtype is not None, "_can_skip asked for its shape"
        if scores.dtype not in offsets:
            offsets[scores.dtype] = _cast(by_branch, scores.dtype)
        total = ir.node("Add", [scores, offsets[scores.dtype]], name=f"{gate.name}.budget")
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


def _can_skip(gate: ir.Node) -> bool:
    logits = gate.inputs[0]
    branches = None if logits is None or logits.shape is None else logits.shape[1]
    why_not = None
    if branches != 2:
        why_not = f"it chooses among {branches} branches"
    elif any(node.attributes.get_int("branch", -1) == 0 for node, _ in gate.outputs[0].uses()):
        why_not = "its branch 0 computes"
    if why_not:
        _log.info("%s (PAGGate) has no budget: %s", gate.name, why_not)
    return why_not is None


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
