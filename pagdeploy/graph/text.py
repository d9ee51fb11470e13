"""A model as text, so that two graphs can be compared by structure and read by people."""

from __future__ import annotations

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
    lines: list[str] = []
    seen: dict[ir.Value, str] = {}
    number = itertools.count()
    for index, value in enumerate(model.graph.inputs):
        seen[value] = f"input{index}"

    def name_of(value: ir.Value | None) -> str:
        if value is None:
            return "_"
        if value in seen:
            return seen[value]
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return _constant(tensor.numpy())
        node = value.producer()
        if node is None:
            return f"outer({value.name})"
        inputs = ", ".join(name_of(v) for v in node.inputs)
        attributes = ", ".join(f"{k}={_attribute(a)}" for k, a in sorted(node.attributes.items()))
        outputs = []
        for output in node.outputs:
            seen[output] = f"v{next(number)}"
            outputs.append(seen[output])
        domain = f"{node.domain}." if node.domain else ""
        lines.append(
            f"{', '.join(outputs)} = {domain}{node.op_type}"
            f"{f' <{attributes}>' if attributes else ''} ({inputs})"
        )
        return seen[value]

    results = [name_of(value) for value in model.graph.outputs]
    functions = sorted(f"function {f.domain}.{f.name}" for f in model.functions.values())
    return "\n".join([*lines, f"return {', '.join(results)}", *functions])


def _constant(array: np.ndarray) -> str:
    kind = f"{array.dtype}{list(array.shape)}"
    if array.size > _SMALL:
        return f"{kind}{{sum {float(array.astype(np.float64).sum()):.6g}}}"
    return f"{kind}{{{', '.join(f'{v:.6g}' for v in array.ravel().tolist())}}}"


def _attribute(attribute: ir.Attr) -> str:
    value = attribute.value
    if isinstance(value, ir.Graph):
        return "graph"
    if isinstance(value, ir.TensorProtocol):
        return _constant(value.numpy())
    return str(list(value) if isinstance(value, (list, tuple)) else value)
