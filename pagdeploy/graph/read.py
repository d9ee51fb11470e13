"""Reading ONNX files that nobody vouches for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.errors import IncompatibleArtifact, UsageError

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

    if not path.is_file():
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
    return model


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
    _refuse_external_data(model, name)
    _refuse_unknown_ops(model, name)
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except Exception as problem:  # the checker raises several types of its own
        first = next(
            (line for line in str(problem).splitlines() if line.strip()), "no reason given"
        )
        raise IncompatibleArtifact(
            f"{name} is not a valid ONNX model ({first.strip().rstrip('.')}).", remedy=_GET_AGAIN
        ) from None


def _refuse_external_data(model: onnx.ModelProto, name: str) -> None:
    import onnx

    graphs = [model.graph, *_subgraphs(model.graph)]
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    for graph in graphs:
        for node in graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")]
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
    graphs = [model.graph, *_subgraphs(model.graph)]
    for node in (node for graph in graphs for node in graph.node):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain == DOMAIN:
            kinds = {a.name: _KINDS.get(a.type, "another kind") for a in node.attribute}
            check_node(node.op_type, kinds, list(node.input), name=node.name)
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


def _subgraphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    found: list[onnx.GraphProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                found += [inner, *_subgraphs(inner)]
    return found
