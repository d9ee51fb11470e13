"""Everything that follows from an op's declaration: schema, function body, plugin fields, docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.ops import DOMAIN, OPS, VERSION, Attribute, Op, native

if TYPE_CHECKING:
    import onnx
    import onnx.defs

MIN_OPSET = 17
"""The oldest default-domain opset that the function bodies are written for and tested with."""

COMMAND = "python -m pagdeploy.ops"
"""What rewrites the generated files."""


def schema(op: Op) -> onnx.defs.OpSchema:
    """The ONNX schema, with type and shape inference.

    Every attribute is required: defaults exist only for those who make nodes, because several
    runtimes ignore the defaults of a function body.
    """
    from onnx.defs import OpSchema

    kinds = {
        "int": OpSchema.AttrType.INT,
        "ints": OpSchema.AttrType.INTS,
        "float": OpSchema.AttrType.FLOAT,
    }
    result = OpSchema(
        op.name,
        DOMAIN,
        VERSION,
        op.doc,
        inputs=[OpSchema.FormalParameter(p.name, p.type, p.doc) for p in op.inputs],
        outputs=[OpSchema.FormalParameter(p.name, p.type, p.doc) for p in op.outputs],
        type_constraints=[(name, types, "") for name, types in op.types.items()],
        attributes=[OpSchema.Attribute(a.name, kinds[a.kind], a.doc) for a in op.attributes],
    )
    result.set_type_and_shape_inference_function(op.infer)
    return result


def register_schemas() -> None:
    """Make the ops known to this process's onnx: its checker, shape inference and onnxscript.

    Those of the native lowering too.
    """
    import onnx.defs

    for op in OPS.values():
        if not onnx.defs.has(op.name, DOMAIN):
            onnx.defs.register_schema(schema(op))
    for lowered in native.schemas():
        if not onnx.defs.has(lowered.name, lowered.domain):
            onnx.defs.register_schema(lowered)


def function_body(op: Op, opset: int) -> onnx.FunctionProto:
    """The ONNX function that defines `op` in terms of the default domain.

    Args:
        op: The op.
        opset: The default-domain opset of the model that will hold the function. They must be
            equal: onnx.inliner silently leaves calls of other functions in place.

    Raises:
        IncompatibleArtifact: the opset is older than `MIN_OPSET`.
    """
    import onnx.parser

    if opset < MIN_OPSET:
        raise IncompatibleArtifact(
            f"The model is of opset {opset}, but {op.name} needs {MIN_OPSET} or later.",
            remedy=f"Export it again at opset {MIN_OPSET}, or convert it.",
        )
    names = ", ".join(attribute.name for attribute in op.attributes)
    inputs = ", ".join(port.name for port in op.inputs)
    outputs = ", ".join(port.name for port in op.outputs)
    function = onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
        f"{op.name} {f'<{names}>' if names else ''} ({inputs}) => ({outputs})\n"
        f"{{{op.body}}}"
    )
    function.doc_string = op.doc
    for node in function.node:
        # onnxruntime 1.20 names what it fuses after its nodes, and refuses two that have no name.
        node.name = node.output[0]
    return function


def check_node(
    op_type: str, attributes: Mapping[str, str], inputs: Sequence[str], *, name: str = ""
) -> None:
    """Refuse a node of our domain that no engine could run, naming what is wrong with it.

    Args:
        op_type: The node's op.
        attributes: The kind of each attribute that is present: "int", "ints", "float", or
            whatever else the file says.
        inputs: The names of the node's inputs; an empty name is an input left out.
        name: The node's name, for the message.

    Raises:
        IncompatibleArtifact: the op is unknown; an attribute is missing, unknown or of another
            kind; an input is missing, left out or too many.
    """
    op = OPS.get(op_type)
    if op is None:
        raise IncompatibleArtifact(
            f"The op {op_type!r} of the domain {DOMAIN!r} is unknown.",
            remedy=f"This version knows {', '.join(OPS)}; update pagdeploy if the file is newer.",
        )
    wrong = _first_fault(op, attributes, inputs)
    if wrong:
        raise IncompatibleArtifact(
            f"The node {name!r} ({op_type}) {wrong}.",
            remedy="Export the model again with this version of pagdeploy.",
        )


def _first_fault(op: Op, attributes: Mapping[str, str], inputs: Sequence[str]) -> str | None:
    for attribute in op.attributes:
        kind = attributes.get(attribute.name)
        if kind is None:
            return f"lacks the attribute {attribute.name!r}"
        if kind != attribute.kind:
            return f"has the attribute {attribute.name!r} as {kind!r}, not as {attribute.kind!r}"
    known = {attribute.name for attribute in op.attributes} | PLUGIN_ATTRIBUTES
    for name in attributes:
        if name not in known:
            return f"has the unknown attribute {name!r}"
    for i, port in enumerate(op.inputs):
        if i >= len(inputs) or not inputs[i]:
            return f"lacks the input {port.name!r}"
    if len(inputs) > len(op.inputs):
        return f"has {len(inputs)} inputs, not {len(op.inputs)}"
    return None


PLUGIN_ATTRIBUTES = frozenset({"plugin_version", "plugin_namespace"})
"""What TensorRT's parser reads from a node beyond the op's own attributes; others ignore it."""


def plugin_fields() -> str:
    """The text of `plugins/ops.inc`: one row per attribute of what the C++ side computes."""
    rows = [
        f"PAG_FIELD({op.name}, {a.name}, {a.kind}, {_cpp(a)})"
        for op in OPS.values()
        if op.has_plugin
        for a in op.attributes
    ]
    return "\n".join((_INC_HEADER, *rows, "", "#undef PAG_FIELD", ""))


_INC_HEADER = f"""\
// The attributes of every op, as a table. Generated by `{COMMAND}`; do not edit.
//
//     PAG_FIELD(op, field, kind, default...)
//
// The kinds are int, ints and float. The default is a list of values without braces, so that
// `type field{{__VA_ARGS__}};` declares a member; it is empty where a node must always say.
// Define PAG_FIELD before including this file; `PAG_FIELDS_##op(field, kind, __VA_ARGS__)` as its
// replacement picks the rows of one op."""


def _cpp(attribute: Attribute) -> str:
    default = attribute.default
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return f"{default!r}f" if isinstance(default, float) else str(default)


def documentation() -> str:
    """The text of `docs/ops.md`: a page on every op."""
    intro = (
        f"<!-- Generated by `{COMMAND}`; do not edit. -->\n\n# The ops\n\n"
        f"Domain `{DOMAIN}`, version {VERSION}. Every input and every attribute is written on "
        "every node; the defaults are what the exporters write where nothing else is asked for. "
        "In a portable model each op comes with a function body of standard ONNX ops, so any "
        "runtime can execute it."
    )
    return "\n\n".join((intro, *(_section(op) for op in OPS.values()))) + "\n"


def _section(op: Op) -> str:
    ports = [
        f"| {role} | `{port.name}` | {_types(op.types[port.type])} | {port.doc} |"
        for role, group in (("input", op.inputs), ("output", op.outputs))
        for port in group
    ]
    parts = [
        f"## {op.name}",
        op.doc,
        f"*{op.source}*",
        "\n".join(("| | name | type | meaning |", "|---|---|---|---|", *ports)),
    ]
    if op.attributes:
        head = ("| attribute | kind | default | meaning |", "|---|---|---|---|")
        parts.append("\n".join((*head, *(_attribute_row(a) for a in op.attributes))))
    bounds = ", ".join(f"{dtype} {bound:g}" for dtype, bound in op.bounds.items())
    parts.append(f"Error bound, `max|a-b| / max|b|` against the numpy reference: {bounds}.")
    return "\n\n".join(parts)


def _attribute_row(attribute: Attribute) -> str:
    default = "required" if attribute.default is None else f"`{_cpp(attribute).rstrip('f')}`"
    words = ", ".join(f"{value} {word}" for value, word in attribute.names.items())
    doc = f"{attribute.doc} Values: {words}." if words else attribute.doc
    return f"| `{attribute.name}` | {attribute.kind} | {default} | {doc} |"


def _types(types: Sequence[str]) -> str:
    return ", ".join(name.removeprefix("tensor(").removesuffix(")") for name in types)
