"""Write down the lists of pixels that are the same in every frame, and what is computed of them.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    listed (float[16, 2] table) => (float[taken, 2] y)
    <int32[1, 1, 4, 4] selection = {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0},
     int32 branch = {1}, int64[1] minus = {-1}>
    {
        active = Equal (selection, branch)
        flat = Reshape (active, minus)
        places = NonZero (flat)
        pixels = Reshape (places, minus)
        y = Gather <axis = 0> (table, pixels)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    listed (float[16, 2] table) => (float[taken, 2] y)
    <int64[2] pixels = {1, 10}>
    {
        y = Gather <axis = 0> (table, pixels)
    }

Only behind a NonZero or a CumSum: so a file holds lists of pixels that are constant, but no table
of all neighbours, which a runtime computes as well when it loads the file. A runtime that plans its
memory, as TensorRT does, then knows how many pixels there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of, initializer

Array = npt.NDArray[Any]
_LISTING = frozenset({"CumSum", "NonZero"})
_EXACT = frozenset(
    "Add Cast Concat CumSum Div Equal Expand Gather Mul NonZero Pad Range Reshape Slice Split"
    " Squeeze Sub Unsqueeze".split()
)
_MOST_ELEMENTS = 2**24  # of one value


def run(model: ir.Model) -> int:
    """Compute what is constant in the main graph; returns how many nodes went away."""
    if not any(_lists_constants(node) for node in model.graph):
        return 0
    folding = _Folding(model)
    for node in model.graph:
        folding.visit(node)
    return folding.finish()


def _lists_constants(node: ir.Node) -> bool:
    """Whether a node lists pixels of a mask that is made of constants."""
    if node.op_type not in _LISTING or node.domain:
        return False
    pending, seen = list(node.inputs), set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in seen or constant_of(value) is not None:
            continue
        seen.add(value)
        maker = value.producer()
        if maker is None or maker.domain or maker.op_type not in _EXACT | {"Shape"}:
            return False
        if maker.op_type != "Shape":
            pending += maker.inputs
    return True


class _Folding:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._version = model.opset_imports[""]
        self._known: dict[ir.Value, Array] = {}
        self._lists: dict[ir.Value, None] = {}  # known ones behind a list of pixels, in order

    def visit(self, node: ir.Node) -> None:
        """Note what a node makes, if it is known."""
        if node.domain:
            return
        if node.op_type == "Shape":
            results = self._shape(node)
        elif node.op_type in _EXACT:
            results = self._computed(node)
        else:
            return
        if results is None or any(array.size > _MOST_ELEMENTS for array in results):
            return
        behind = node.op_type in _LISTING or any(value in self._lists for value in node.inputs)
        for value, array in zip(node.outputs, results, strict=True):
            self._known[value] = array
            if behind:
                self._lists[value] = None

    def _array(self, value: ir.Value | None) -> Array | None:
        if value is None:
            return None
        return self._known[value] if value in self._known else constant_of(value)

    def _shape(self, node: ir.Node) -> list[Array] | None:
        """The part of a shape that is asked for."""
        value = node.inputs[0]
        known = self._known.get(value) if value is not None else None
        shape = None if value is None else value.shape
        sizes: list[Any] = list(known.shape) if known is not None else list(shape or ())
        if known is None and shape is None:
            return None
        get = node.attributes
        end = get["end"].as_int() if "end" in get else None
        sizes = sizes[get.get_int("start", 0) : end]
        return [np.array(sizes, np.int64)] if all(isinstance(each, int) for each in sizes) else None

    def _computed(self, node: ir.Node) -> list[Array] | None:
        from onnx.reference import ReferenceEvaluator

        arrays = [self._array(value) for value in node.inputs if value is not None]
        if len(arrays) < len(node.inputs) or any(array is None for array in arrays):
            return None
        if any(array is not None and array.dtype.kind not in "iub" for array in arrays):
            return None  # what is rounded may be rounded otherwise elsewhere
        proto = ir.to_proto(node)
        feeds = dict(zip(proto.input, arrays, strict=True))
        try:
            results = ReferenceEvaluator(proto, opsets={"": self._version}).run(None, feeds)
        except (IndexError, ValueError, RuntimeError):  # the runtime will say what is wrong
            return None
        return [np.asarray(result) for result in results]

    def finish(self) -> int:
        """Put constants in place of the lists that others read; drop what is then unread."""
        graph = self._model.graph
        for value in self._lists:
            node = value.producer()
            readers = [use.node for use in value.uses()]
            kept = value.is_graph_output() or node is None
            if kept or all(reader.outputs[0] in self._lists for reader in readers):
                continue
            constant = initializer(self._model, self._known[value])
            ir.convenience.replace_all_uses_with(value, constant)
        count = 0
        for node in reversed(list(graph)):
            if node.op_type not in _EXACT | {"Shape"} or node.domain:
                continue
            if node.outputs[0] not in self._known:
                continue
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                graph.remove(node, safe=True)
                count += 1
        return count
