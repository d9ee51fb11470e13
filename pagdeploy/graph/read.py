"""Reading ONNX files that nobody vouches for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import is_file
from pagdeploy.graph.functions import MOST_NODES, nodes_of_calls

if TYPE_CHECKING:
    import onnx

# onnx.AttributeProto's FLOAT, INT and INTS, by number so that importing this module is cheap.
_KINDS = {1: "float", 2: "int", 7: "ints"}
_GET_AGAIN = "Export it again, or fetch the file again if it was copied."


def read_model(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file with pagdeploy ops, with or without function bodies.

    Args:
        path: A single-file ONNX model, at most 2 GiB.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: the file is not ONNX, truncated, invalid, keeps weights outside of
            itself, or uses an operator that neither ONNX nor pagdeploy defines.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise IncompatibleArtifact(
            f"{path} is not an ONNX model, or it is truncated.", remedy=_GET_AGAIN
        ) from None
    if not model.graph.node or not model.opset_import or model.ir_version == 0:
        raise IncompatibleArtifact(
            f"{path} is not an ONNX model, or it holds no graph.", remedy=_GET_AGAIN
        )
    check_model(model, str(path))
    name_nodes(model)
    return model


def name_nodes(model: onnx.ModelProto) -> None:
    """Give a name to each node that has none, or one that an earlier node has.

    ONNX asks for neither; passes and reports tell nodes apart by name.
    """
    nodes = [node for graph in graphs_of(model) for node in graph.node]
    taken = {node.name for node in nodes}
    seen = {""}
    for node in nodes:
        if node.name in seen:
            stem = next((output for output in node.output if output), node.op_type)
            names = (f"{stem}_{number}" if number else stem for number in itertools.count())
            node.name = next(name for name in names if name not in taken)
            taken.add(node.name)
        seen.add(node.name)


def check_model(model: onnx.ModelProto, name: str) -> None:
    """Refuse a model that no part of pagdeploy or a runtime could take.

    Args:
        model: As parsed.
        name: What to call it in an error.

    Raises:
        IncompatibleArtifact: as `read_model`.
    """
    import onnx

    from pagdeploy.ops.derive import register_schemas

    register_schemas()
    _refuse_odd_interface(model, name)
    _refuse_external_data(model, name)
    _refuse_unknown_ops(model, name)
    _refuse_impossible_convolutions(model, name)
    _refuse_endless_functions(model, name)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as problem:  # the checker raises several types of its own
        first = next(
            (line for line in str(problem).splitlines() if line.strip()), "no reason given"
        )
        raise IncompatibleArtifact(
            f"{name} is not a valid ONNX model ({first.strip().rstrip('.')}).", remedy=_GET_AGAIN
        ) from None


def _refuse_odd_interface(model: onnx.ModelProto, name: str) -> None:
    import onnx

    numbers = set(onnx.helper.get_all_tensor_dtypes()) - {onnx.TensorProto.STRING}
    for value in [*model.graph.input, *model.graph.output]:
        kind = value.type.WhichOneof("value")
        if kind not in ("tensor_type", None) or (
            kind == "tensor_type" and value.type.tensor_type.elem_type not in numbers
        ):
            raise IncompatibleArtifact(
                f"{name} has the input or output {value.name!r}, which is no tensor of numbers.",
                remedy="Export it with tensors of numbers as inputs and outputs.",
            )


def _refuse_external_data(model: onnx.ModelProto, name: str) -> None:
    import onnx

    graphs = graphs_of(model)
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    sparse = [tensor for graph in graphs for tensor in graph.sparse_initializer]
    # Values that a function's attributes have where a node gives none, read as a node's own.
    defaults = [onnx.NodeProto(attribute=part.attribute_proto) for part in model.functions]
    inner = _subgraphs([*(node for part in model.functions for node in part.node), *defaults])
    nodes = [node for part in (*graphs, *model.functions, *inner) for node in part.node]
    nodes += defaults
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        tensors += [attribute.t, *attribute.tensors]
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    tensors += [tensor for graph in inner for tensor in graph.initializer]
    tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise IncompatibleArtifact(
                f"{name} keeps the weight {tensor.name!r} in another file.",
                remedy="Save the model as one file, with its weights inside.",
            )


def _refuse_unknown_ops(model: onnx.ModelProto, name: str) -> None:
    import onnx

    from pagdeploy.ops import DOMAIN
    from pagdeploy.ops.derive import check_node

    functions = {(f.domain, f.name) for f in model.functions}
    opsets = {o.domain: o.version for o in model.opset_import}
    unknown: Counter[str] = Counter()
    for node in (node for graph in graphs_of(model) for node in graph.node):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain == DOMAIN:
            kinds = {a.name: _KINDS.get(a.type, "another kind") for a in node.attribute}
            check_node(node.op_type, kinds, list(node.input), name=node.name)
            _refuse_bad_values(node)
            continue
        if (node.domain, node.op_type) in functions:
            continue
        version = opsets.get(node.domain, opsets.get(domain, 1))
        try:
            onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            unknown[f"{domain or 'ai.onnx'}::{node.op_type}"] += 1
    if unknown:
        listing = ", ".join(sorted(unknown)[:5])
        raise IncompatibleArtifact(
            f"{name} uses operators that neither ONNX nor pagdeploy defines: {listing}.",
            remedy="Export it without them, or with their function bodies in the file.",
        )
    for function in model.functions:
        if function.domain != DOMAIN and any(node.domain == DOMAIN for node in function.node):
            raise IncompatibleArtifact(
                f"{name} uses our operators inside of its function {function.name!r}.",
                remedy="Inline its functions first, with onnx.inliner.inline_selected_functions.",
            )


def _refuse_bad_values(node: onnx.NodeProto) -> None:
    """Refuse attribute values that no node of its op can have; their kinds are right."""
    import onnx

    from pagdeploy.ops import OPS
    from pagdeploy.ops.perforated_conv_reference import output_size, require_branch
    from pagdeploy.ops.seg_aware_conv_reference import require_centred

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    remedy = "Export the model again with this version of pagdeploy."
    for attribute in OPS[node.op_type].attributes:
        value = values[attribute.name]
        if attribute.names and value not in attribute.names:
            words = ", ".join(f"{number} ({word})" for number, word in attribute.names.items())
            raise IncompatibleArtifact(
                f"The node {node.name!r} has the {attribute.name} {value}, not one of {words}.",
                remedy=remedy,
            )
    if node.op_type in ("PerforatedConv", "SegAwareConv"):
        geometry = [values[key] for key in ("kernel_shape", "strides", "pads", "dilations")]
        try:
            output_size((2**31, 2**31), *geometry, op=node.op_type)
            if node.op_type == "PerforatedConv":
                require_branch(values["branch"])
            else:
                require_centred(values["kernel_shape"], values["pads"], values["dilations"])
        except UsageError as problem:
            raise IncompatibleArtifact(
                f"The node {node.name!r} cannot be right: {problem.message}", remedy=remedy
            ) from None
        if values["group"] < 1:
            raise IncompatibleArtifact(
                f"The node {node.name!r} has {values['group']} groups.", remedy=remedy
            )


def _refuse_endless_functions(model: onnx.ModelProto, name: str) -> None:
    """Refuse functions over whose calls a checker or a runtime would work for ever."""
    count = nodes_of_calls(model)
    if count is None or count > MOST_NODES:
        what = "themselves" if count is None else f"each other, {min(count, 10**12)} nodes in all"
        raise IncompatibleArtifact(
            f"{name} has functions that call {what}.",
            remedy="Export it without model-local functions.",
        )


def _refuse_impossible_convolutions(model: onnx.ModelProto, name: str) -> None:
    """Refuse a branch that its gate never selects and a flat base, where the file says so."""
    from pagdeploy.ops import DOMAIN

    graph = model.graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*graph.value_info, *graph.input)
        if len(value.type.tensor_type.shape.dim) == 4
    }
    branches = {
        node.output[0]: channels.get(node.input[0], 0)
        for node in graph.node
        if node.domain == DOMAIN and node.op_type == "PAGGate"
    }
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type == "PerforatedConv":
            base = constants.get(node.input[4])
            if base is not None and len(base) != 4:
                raise IncompatibleArtifact(
                    f"In {name} the base of the node {node.name!r} has {len(base)} axes, not 4.",
                    remedy="Reshape it to (N, M, H, W), or to (1, 1, 1, 1) for one value.",
                )
            count = branches.get(node.input[1], 0)
            branch = next(a.i for a in node.attribute if a.name == "branch")
            if count and branch >= count:
                raise IncompatibleArtifact(
                    f"In {name} the node {node.name!r} waits for branch {branch} of a gate that"
                    f" has {count}.",
                    remedy="Number the branches from 0.",
                )


def graphs_of(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The main graph and, behind it, every graph inside of a node."""
    """The main graph and, behind it, every graph inside of a node."""
    return [model.graph, *_subgraphs(model.graph.node)]


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    found: list[onnx.GraphProto] = []
    for node in nodes:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                found += [inner, *_subgraphs(inner.node)]
    return found
