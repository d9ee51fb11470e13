"""What a model's inputs and outputs are called, and which of their axes may vary."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.export import ExportedProgram

from pagdeploy.errors import UsageError

DynamicShapes = Mapping[str, Mapping[int, str]]
"""For each input the name of each axis whose size may vary."""

_AXES = {0: "batch", 2: "height", 3: "width"}


def checked_inputs(
    model: nn.Module | ExportedProgram, inputs: Sequence[Tensor] | None
) -> tuple[Tensor, ...]:
    """The example inputs on the CPU; a program brings its own. Raises UsageError without any."""
    if inputs is None and isinstance(model, ExportedProgram) and model.example_inputs:
        positional, keywords = model.example_inputs
        inputs = (*positional, *keywords.values())
    if not inputs or not all(isinstance(value, Tensor) for value in inputs):
        raise UsageError(
            "The example inputs are not a sequence of tensors.",
            remedy="Give one tensor for each parameter of forward.",
        )
    return tuple(value.detach().cpu() for value in inputs)


def default_input_names(model: nn.Module | ExportedProgram, count: int) -> list[str]:
    """The names of forward's first `count` parameters."""
    if isinstance(model, ExportedProgram):
        return [str(name) for name in model.graph_signature.user_inputs]
    names: list[str] = []
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{index}" for index in range(count - len(names))]
        else:
            names.append(parameter.name)
    return names[:count]


def default_output_names(outputs: object) -> list[str]:
    """Names for what forward returned.

    Raises:
        UsageError: it is no tensor and no flat tuple, list or mapping of tensors.
    """
    if isinstance(outputs, Tensor):
        return ["output"]
    if isinstance(outputs, Mapping):
        named = {str(key): value for key, value in outputs.items()}
    elif isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        named = dict(zip(outputs._fields, outputs, strict=True))
    elif isinstance(outputs, (tuple, list)):
        named = {f"output_{index}": value for index, value in enumerate(outputs)}
    else:
        named = {"the result": outputs}
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"The model does not return tensors: {name} is of type {type(value).__name__}.",
                remedy="Let forward return a tensor, or a flat tuple, list or dict of tensors.",
            )
    if not named:
        raise UsageError("The model returns nothing.", remedy="Let forward return a tensor.")
    return list(named)


def names(given: Sequence[str] | None, default: list[str], role: str) -> list[str]:
    """The given names, or the default. Raises UsageError if their number is wrong."""
    if given is None:
        return default
    if len(given) != len(default):
        raise UsageError(
            f"{len(given)} {role} names were given for {len(default)} {role}s.",
            remedy=f"Name every {role}, in order.",
        )
    return list(given)


def require_unique(names: Sequence[str]) -> None:
    """Raise UsageError if a name is empty or occurs twice."""
    for name in names:
        if not name or names.count(name) > 1:
            raise UsageError(
                f"The name {name!r} is used for more than one input or output, or is empty.",
                remedy="Give every input and output a name of its own.",
            )


def checked_shapes(given: DynamicShapes | None, examples: Mapping[str, Tensor]) -> DynamicShapes:
    """The given dynamic axes, or the default ones.

    The default names axes 0, 2 and 3 of 4-D inputs. The first input has the plain names; the
    others have names of their own, which the exporter drops where the model needs equal sizes.

    Raises:
        UsageError: an input or an axis does not exist, or one name stands for two sizes.
    """
    if given is None:
        images = [name for name, tensor in examples.items() if tensor.ndim == 4]
        return {
            name: {
                axis: word if name == images[0] else f"{name}_{word}"
                for axis, word in _AXES.items()
            }
            for name in images
        }
    sizes: dict[str, int] = {}
    for name, axes in given.items():
        if name not in examples:
            raise UsageError(
                f"There is no input {name!r} to have a dynamic shape.",
                remedy=f"The inputs are {', '.join(examples)}.",
            )
        for axis, word in axes.items():
            if not 0 <= axis < examples[name].ndim:
                raise UsageError(
                    f"The input {name!r} has no axis {axis}.",
                    remedy=f"Its axes are 0 to {examples[name].ndim - 1}.",
                )
            size = examples[name].shape[axis]
            if sizes.setdefault(word, size) != size:
                raise UsageError(
                    f"The axis name {word!r} stands for the sizes {sizes[word]} and {size}.",
                    remedy="Give axes of different sizes different names.",
                )
    return given
