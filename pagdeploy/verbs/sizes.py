"""Exporting with as many sizes left open as the model really takes.

PyTorch's exporter may write sizes down as dynamic that the code fixes: a check that raises is put
off, and a number that was computed from the example stays in the graph. So the exported model is
run beside PyTorch's at other sizes, and where they part, sizes are fixed one step further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pagdeploy.errors import BuildFailed, EnvironmentProblem, UsageError, VerificationFailed

if TYPE_CHECKING:
    import onnx

Export = Callable[..., "onnx.ModelProto"]
_BATCH = {0: "batch"}


def export_open_sizes(
    export: Export, model: Any, inputs: Mapping[str, Any] | None, *, fixed: bool
) -> tuple[onnx.ModelProto, list[str]]:
    """Export a model; returns it, and what the user should know of its sizes.

    Args:
        export: Takes the model, the example inputs and `dynamic_shapes`.
        model: A module, or a program, whose own dynamic sizes count.
        inputs: The example, tensors by name; None takes a program's own.
        fixed: Fix every size from the start.

    Raises:
        VerificationFailed: even with its sizes fixed, the exported model computes another function.
        UsageError: as `exporters.from_torch.export`.
    """
    from pagdeploy.exporters import evaluation, request, signature
    from pagdeploy.exporters.from_torch import NotTranslated

    given = tuple(inputs.values()) if inputs else None
    program = request.is_program(model)
    examples = signature.checked_inputs(model, given)
    attempts: list[tuple[str, Any, Any]] = [("all", model, None), ("batch", model, {})]
    if program:
        attempts = attempts[:1]
    else:
        maps = [name for name, value in (inputs or {}).items() if value.ndim == 4]
        attempts[1] = ("batch", model, {name: _BATCH for name in maps})
    attempts = [*([] if fixed else attempts), ("none", None, {})]
    why = ""
    for number, (_, source, shapes) in enumerate(attempts):
        last = number + 1 == len(attempts)
        if source is None:
            source = evaluation.with_fixed_sizes(model, examples) if program else model
        try:
            proto = export(source, given, dynamic_shapes=None if program else shapes)
        except NotTranslated as problem:
            if last:
                raise
            why = why or problem.message
            continue
        found = _fault(proto, source, examples)
        if found is None or not found[1]:
            notes = [] if found is None else [found[0]]
            return proto, notes if not why else [_told(attempts[number][0], why), *notes]
        if last:
            raise VerificationFailed(
                f"The exported model does not compute what PyTorch does: {found[0]}.",
                remedy="Report the model; onnxruntime and PyTorch should agree.",
            )
        why = why or found[0]
    raise AssertionError("the last attempt returns or raises")


def _told(varies: str, why: str) -> str:
    kept = "the batch alone varies" if varies == "batch" else "nothing varies"
    return (
        f"The model is exported for the sizes of its example, and {kept}: {why.rstrip('.')}."
        " Export it once for each size, with --shapes."
    )


def _fault(proto: onnx.ModelProto, model: Any, examples: Any) -> tuple[str, bool] | None:
    """What is wrong with an exported model, and whether that condemns it; None if nothing is."""
    from pagdeploy.engines.ort import OnnxRuntimeEngine
    from pagdeploy.exporters import evaluation, request
    from pagdeploy.exporters.from_torch import RANDOM_OPS
    from pagdeploy.graph.read import graphs_of

    source = model if request.is_program(model) else evaluation.evaluation_copy(model)
    named = {v.name: tensor for v, tensor in zip(proto.graph.input, examples, strict=True)}
    if any(node.op_type in RANDOM_OPS for graph in graphs_of(proto) for node in graph.node):
        return "the model draws random numbers, so it was not compared with PyTorch.", False
    try:
        session = OnnxRuntimeEngine().load(proto.SerializeToString())
    except EnvironmentProblem:
        return "onnxruntime is not installed, so the model was not compared with PyTorch.", False
    except BuildFailed as problem:  # such as bfloat16, for which the CPU has no convolution
        return f"the model could not be compared with PyTorch: {problem.message}", False
    trial = evaluation.trial_of(source, named)
    if difference := _difference(session, proto, trial):
        return f"at the example's sizes {difference}", True
    varying = _open_axes(proto)
    if not any(varying.values()):
        return None
    other = evaluation.trial_elsewhere(source, named, varying)
    if other is None:
        return "PyTorch's own model takes no other sizes", True
    difference = _difference(session, proto, other)
    sizes = ", ".join(f"{name} {_spelt(array.shape)}" for name, array in other.inputs.items())
    return None if difference is None else (f"at {sizes} {difference}", True)


def _difference(session: Any, proto: onnx.ModelProto, trial: Any) -> str | None:
    from pagdeploy.exporters.evaluation import agreement

    try:
        found = session.run(trial.inputs)
    except (BuildFailed, UsageError) as problem:
        return f"the exported model fails ({problem.message.rstrip('.')})"
    names = [value.name for value in proto.graph.output]
    answers = zip(names, trial.outputs, strict=True)
    faults = (agreement(name, found[name], theirs) for name, theirs in answers)
    return next((fault for fault in faults if fault is not None), None)


def _open_axes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    """By input the axes without a fixed size."""
    return {
        value.name: [
            axis
            for axis, dim in enumerate(value.type.tensor_type.shape.dim)
            if not dim.HasField("dim_value")
        ]
        for value in proto.graph.input
    }


def open_sizes(proto: onnx.ModelProto) -> str:
    """What varies in a model: "batch, height and width" and the like, or "nothing"."""
    names = [
        dim.dim_param or f"axis {axis} of {value.name}"
        for value in proto.graph.input
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if not dim.HasField("dim_value")
    ]
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        return unique[0] if unique else "nothing"
    return f"{', '.join(unique[:-1])} and {unique[-1]}"


def _spelt(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
