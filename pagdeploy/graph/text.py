"""A model as text, so that two graphs can be compared by structure and read by people."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

_SMALL = 16  # elements; longer constants show their shape and a checksum of their values


def parse(text: str) -> ir.Model:
    """The model written in ONNX text syntax.

    Raises:
        onnx.parser.ParseError: the text is not ONNX text.
    """
    return ir.from_proto(onnx.parser.parse_model(text))


def picture(model: ir.Model) -> str:
    """Canonical text: equal for two models if and only if they have the same structure.

    Nodes come in a canonical order, values are numbered, initializers are shown where they are
    used. Names, doc strings and metadata do not count.
    """
    drawing = _Drawing()
    results = drawing.graph(model.graph)
    functions = sorted(f"function {f.domain}.{f.name}" for f in model.functions.values())
    return "\n".join([*drawing.lines, f"return {results}", *functions])


class _Drawing:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._seen: dict[ir.Value, str] = {}
        self._values, self._inputs = itertools.count(), itertools.count()

    def graph(self, graph: ir.Graph) -> str:
        """Draw what the outputs need; returns the outputs."""
        for value in graph.inputs:
            self._seen[value] = f"input{next(self._inputs)}"
        for output in graph.outputs:
            pending = [output]
            while pending:  # depth first, without recursion: graphs are thousands of nodes deep
                node = self._undrawn(pending[-1])
                if node is None:
                    pending.pop()
                elif waiting := [value for value in node.inputs if self._undrawn(value)]:
                    pending += [value for value in reversed(waiting) if value is not None]
                else:
                    self._node(node)
        return ", ".join(self._name(value) for value in graph.outputs)

    def _undrawn(self, value: ir.Value | None) -> ir.Node | None:
        if value is None or value in self._seen or _is_constant(value):
            return None
        return value.producer()

    def _node(self, node: ir.Node) -> None:
        attributes = ", ".join(
            f"{k}={self._attribute(a)}" for k, a in sorted(node.attributes.items())
        )
        for output in node.outputs:
            self._seen[output] = f"v{next(self._values)}"
        outputs = ", ".join(self._seen[output] for output in node.outputs)
        domain = f"{node.domain}." if node.domain else ""
        shown = f" <{attributes}>" if attributes else ""
        inputs = ", ".join(self._name(value) for value in node.inputs)
        self.lines.append(f"{outputs} = {domain}{node.op_type}{shown} ({inputs})")

    def _name(self, value: ir.Value | None) -> str:
        if value is None:
            return "_"
        if value in self._seen:
            return self._seen[value]
        tensor = ir.convenience.get_const_tensor(value)
        return f"outer({value.name})" if tensor is None else _constant(tensor.numpy())

    def _attribute(self, attribute: ir.Attr) -> str:
        value = attribute.value
        if isinstance(value, ir.Graph):
            self.lines.append("{")
            results = self.graph(value)
            self.lines.append(f"}} {results}")
            return "graph"
        if isinstance(value, ir.TensorProtocol):
            return _constant(value.numpy())
        return str(list(value) if isinstance(value, (list, tuple)) else value)


def _constant(array: np.ndarray) -> str:
    kind = f"{array.dtype}{list(array.shape)}"
    if array.size > _SMALL:
        digits = ",".join(f"{v:.6g}" for v in array.ravel().tolist())
        return f"{kind}{{sha256 {hashlib.sha256(digits.encode()).hexdigest()[:16]}}}"
    return f"{kind}{{{', '.join(f'{v:.6g}' for v in array.ravel().tolist())}}}"


def _is_constant(value: ir.Value) -> bool:
    return ir.convenience.get_const_tensor(value) is not None
