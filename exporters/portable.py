"""What makes the exporter's output a portable model: names, filled inputs, function bodies."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants_ir

from pagdeploy.errors import BuildFailed
from pagdeploy.ops import DOMAIN, VERSION
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.derive import register_schemas

_PROTOBUF_LIMIT = 2**31 - 1  # bytes
_SCOPES = "pkg.torch.onnx.name_scopes"
# The rest of what the exporter notes on nodes and values holds local paths and source lines.
_KEPT_METADATA = frozenset({"namespace", "pkg.torch.onnx.class_hierarchy", _SCOPES})


def our_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of our domain, those of subgraphs included, in order."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == DOMAIN:
            yield node


def module_path(node: ir.Node) -> str:
    """The dotted path of the module whose forward made the node; "" for the root."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""


def name_after_modules(model: ir.Model) -> None:
    """Name nodes after the modules that made them, and the gates' values after the gates.

    Our nodes and convolutions have the module's own `path`, the others `path/<operator>`; the
    second one of a name is `name#1`. A gate `path` has the logits `path.logits` and the selection
    `path.selection`, unless these are inputs, outputs or constants of the model, which keep their
    names.
    """
    calls: dict[str, int] = {}
    ours = list(our_nodes(model))
    others = [n for n in ir.traversal.RecursiveGraphIterator(model.graph) if n.domain != DOMAIN]
    for node in (*ours, *others):
        path = module_path(node)
        if node.domain != DOMAIN and node.op_type not in ("Conv", "ConvTranspose"):
            path = f"{path}/{node.op_type}" if path else ""
        if not path and node.domain != DOMAIN:
            continue  # it keeps the exporter's name
        path = path or node.op_type
        index = calls[path] = calls.get(path, -1) + 1
        node.name = f"{path}#{index}" if index else path
    named: set[ir.Value] = set()
    for node in ours:
        if node.op_type != "PAGGate":
            continue
        for value, role in ((node.inputs[0], "logits"), (node.outputs[0], "selection")):
            if value is None or value in named:
                continue
            if value.is_graph_input() or value.is_graph_output() or value.is_initializer():
                continue
            value.name = f"{node.name}.{role}"
            named.add(value)
    NameFixPass()(model)


def fold_parameters(model: ir.Model) -> None:
    """Compute the weights and biases of our nodes that do not depend on the model's inputs.

    The exporter folds only small ones, and weight arithmetic would hide them from every engine.
    """
    needed: set[ir.Node] = set()
    ends = {"PerforatedConv": 4, "SegAwareConv": 5}  # weights, bias and, of the latter, hardness
    stack = [v for n in our_nodes(model) for v in n.inputs[2 : ends.get(n.op_type, 2)]]
    while stack:
        value = stack.pop()
        node = None if value is None else value.producer()
        if node is not None and node not in needed:
            needed.add(node)
            stack += node.inputs
    if needed:
        limit = _PROTOBUF_LIMIT
        fold_constants_ir(
            model,
            input_size_limit=limit,
            output_size_limit=limit,
            should_fold=lambda node: node in needed,
        )
        RemoveUnusedNodesPass()(model)


def fill_inputs(model: ir.Model) -> None:
    """Give every convolution of ours its five inputs: absent bias and base become zeros.

    The bias is (Co,) and the base (1, 1, 1, 1), of the weight's dtype; equal ones are shared.
    """
    for node in our_nodes(model):
        if node.op_type == "PAGGate":
            continue
        weight = node.inputs[2]
        assert weight is not None and weight.shape is not None and weight.dtype is not None
        node.resize_inputs(5)
        for index, shape in ((3, [int(weight.shape[0])]), (4, [1, 1, 1, 1])):  # type: ignore[arg-type]
            if node.inputs[index] is None:
                node.replace_input_with(index, _zeros(model.graph, weight.dtype, shape))


def _zeros(graph: ir.Graph, dtype: ir.DataType, shape: list[int]) -> ir.Value:
    name = f"zeros_{dtype.name.lower()}_{'x'.join(map(str, shape))}"
    if name not in graph.initializers:
        tensor = ir.tensor(np.zeros(shape, dtype.numpy()), dtype=dtype, name=name)
        value = ir.Value(
            name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape), const_value=tensor
        )
        graph.register_initializer(value)
    return graph.initializers[name]


def strip_metadata(model: ir.Model) -> None:
    """Drop stack traces, source lines and local paths; the names of modules stay."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.doc_string = None
        for key in set(node.metadata_props) - _KEPT_METADATA:
            del node.metadata_props[key]
        for value in node.outputs:
            value.metadata_props.clear()


def finish(model: ir.Model) -> onnx.ModelProto:
    """Attach one function body per op in use, set the versions, and check the result.

    Args:
        model: At its final opset, every input of our nodes given.

    Raises:
        BuildFailed: the model is larger than one ONNX file can be.
    """
    opset = model.opset_imports[""]
    if any(our_nodes(model)):
        model.opset_imports[DOMAIN] = VERSION
    model.ir_version = 8 if opset <= 18 else 9 if opset <= 20 else 10
    ours = version("pagdeploy")
    model.producer_name, model.producer_version = "pagdeploy", ours
    model.metadata_props["pagdeploy.version"] = ours
    model.metadata_props["pagdeploy.ops_version"] = str(VERSION)
    tensors = [v.const_value for v in model.graph.initializers.values()]
    size = sum(t.nbytes for t in tensors if t is not None)
    if size > _PROTOBUF_LIMIT:
        raise BuildFailed(
            f"The weights are {size / 2**30:.1f} GiB; one ONNX file holds at most 2.",
            remedy="Export the model in half precision, or split it.",
        )
    proto = attach_bodies(ir.to_proto(model))
    register_schemas()
    onnx.checker.check_model(proto, full_check=True, check_custom_domain=True)
    return proto
