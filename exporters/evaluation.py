"""A model at work: in evaluation mode, on inputs of the example's sizes and of others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pagdeploy.errors import UsageError
from pagdeploy.exporters.modules import PerforatedConv2d
from pagdeploy.exporters.signature import default_output_names

# Which argument of a layer says that it trains.
_TRAINING_FLAG = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.instance_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
    torch.ops.aten.feature_dropout.default: 2,
}
_FLIPPED, _DIFFERENT = 0.01, 0.02  # of elements; of the root mean square
_SILENCE = 1e-6  # below this an output is taken for zero
_SMALLEST = 64  # side that is halved: smaller maps end at a single pixel in most networks


@dataclass(frozen=True)
class Trial:
    """What a model answers.

    Attributes:
        inputs: By name.
        outputs: In the order of `signature.default_output_names`.
    """

    inputs: dict[str, npt.NDArray[Any]]
    outputs: list[npt.NDArray[Any]]


def evaluation_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, its perforated convolutions folded with their norms.

    Raises:
        UsageError: the model is in training mode, or a norm is of no known kind.
    """
    training = [name or "<root>" for name, module in model.named_modules() if module.training]
    if training:
        raise UsageError(
            f"The model is in training mode ({training[0]}).",
            remedy="Call model.eval() before export.",
        )
    # What modules cached with a gradient cannot be copied, and evaluation does not read it.
    cached = (value for module in model.modules() for value in vars(module).values())
    memo: dict[int, Any] = {
        id(value): value.detach()
        for value in cached
        if isinstance(value, Tensor) and not value.is_leaf
    }
    result = copy.deepcopy(model, memo).cpu()
    for name, module in result.named_modules():
        if isinstance(module, PerforatedConv2d) and module.norm is not None:
            try:
                module.fold_norm_()
            except TypeError as problem:
                raise UsageError(
                    f"The norm of {name!r} is of no known kind: {problem}.",
                    remedy="Use BatchNorm2d with running statistics, or ChaAtten.",
                ) from None
    return result


def refuse_training(program: ExportedProgram) -> None:
    """Raise UsageError if a program was exported in training mode."""
    for node in program.graph.nodes:
        flag = _TRAINING_FLAG.get(node.target)
        if flag is not None and node.args[flag] is True:
            raise UsageError(
                f"The program was exported in training mode ({node.name}).",
                remedy="Call model.eval() before torch.export.export.",
            )


def run_model(model: nn.Module | ExportedProgram, inputs: Sequence[Tensor]) -> object:
    """What a model returns. Raises UsageError if it fails, which is the user's code."""
    try:
        with torch.no_grad():
            if isinstance(model, nn.Module):
                return model(*inputs)
            keywords = list((model.example_inputs or ((), {}))[1])
            split = len(inputs) - len(keywords)
            return model.module()(
                *inputs[:split], **dict(zip(keywords, inputs[split:], strict=True))
            )
    except Exception as problem:
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs)
        raise UsageError(
            f"The model fails on the example input of shape {shapes}: "
            f"{type(problem).__name__}: {_first_line(problem)}.",
            remedy="Give inputs that forward takes, or mend the model.",
        ) from problem


def with_fixed_sizes(program: ExportedProgram, inputs: Sequence[Tensor]) -> ExportedProgram:
    """The program again, for the sizes of these inputs alone."""
    keywords = list((program.example_inputs or ((), {}))[1])
    split = len(inputs) - len(keywords)
    named = dict(zip(keywords, inputs[split:], strict=True))
    return torch.export.export(program.module(), tuple(inputs[:split]), named)


def trial_of(model: nn.Module | ExportedProgram, inputs: Mapping[str, Tensor]) -> Trial:
    """What a model answers on these inputs.

    Args:
        model: A program, or what `evaluation_copy` returned.
        inputs: By name, in the order that the model takes them in.

    Raises:
        UsageError: the model fails.
    """
    outputs = run_model(model, list(inputs.values()))
    return Trial({name: value.numpy() for name, value in inputs.items()}, _listed(outputs))


def answers_to(
    model: nn.Module | ExportedProgram, inputs: Sequence[npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """What a model answers to arrays, in the order of `signature.default_output_names`.

    Args:
        model: As for `trial_of`.
        inputs: In the order that the model takes them in; they are not written to.

    Raises:
        UsageError: the model fails, or returns no tensors.
    """
    outputs = run_model(model, [torch.tensor(array) for array in inputs])
    default_output_names(outputs)  # refuses what is no flat collection of tensors
    return _listed(outputs)


def _listed(outputs: object) -> list[npt.NDArray[Any]]:
    listed = (
        [outputs]
        if isinstance(outputs, Tensor)
        else list(outputs.values() if isinstance(outputs, Mapping) else outputs)  # type: ignore[call-overload]
    )
    return [value.detach().numpy() for value in listed]


def trial_elsewhere(
    model: nn.Module | ExportedProgram,
    inputs: Mapping[str, Tensor],
    varying: Mapping[str, Sequence[int]],
) -> Trial | None:
    """What a model answers at other sizes; None if it takes none of those that are tried.

    Args:
        model: As for `trial_of`.
        inputs: The example, by name; repeated or cut to the other sizes.
        varying: By name the axes whose sizes are to be others.
    """
    for size_of in _others():
        resized = {
            name: _resized(tensor, {axis: size_of(axis, tensor) for axis in varying.get(name, ())})
            for name, tensor in inputs.items()
        }
        try:
            return trial_of(model, resized)
        except UsageError:  # networks ask for multiples of some number, or for squares
            continue
    return None


def _others() -> Iterator[Any]:
    def larger(axis: int, tensor: Tensor) -> int:
        return int(tensor.shape[axis]) + {0: 1, 3: 64}.get(axis, 32)

    def twice(axis: int, tensor: Tensor) -> int:
        return int(tensor.shape[axis]) * 2

    def half(axis: int, tensor: Tensor) -> int:
        size = int(tensor.shape[axis])
        return size + 1 if axis == 0 else size // 2 if size >= _SMALLEST else size * 3

    yield from (larger, twice, half)


def _resized(tensor: Tensor, sizes: Mapping[int, int]) -> Tensor:
    for axis, size in sizes.items():
        places = torch.arange(size) % tensor.shape[axis]
        tensor = tensor.index_select(axis, places)
    return tensor.contiguous()


def agreement(name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> str | None:
    """Why two answers are not those of one function, as a clause; None if they may be.

    Near a tie a decision may flip, so a few pixels may differ by any amount; the whole may not.

    Args:
        name: Of the output.
        ours: Of the exported model.
        theirs: PyTorch's, of any numeric dtype.
    """
    if ours.shape != theirs.shape:
        return f"{name!r} has the shape {ours.shape} instead of {theirs.shape}"
    if not theirs.size:
        return None
    if theirs.dtype.kind not in "fc":
        share = float(np.mean(ours != theirs))
        return None if share <= _FLIPPED else f"{share:.0%} of {name!r} differ"
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if (np.isfinite(a) != np.isfinite(b)).mean() > _FLIPPED:
        return f"{name!r} is not finite at other places"
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return None
    scale = max(float(np.sqrt(np.mean(np.square(b[both])))), _SILENCE)
    error = float(np.sqrt(np.mean(np.square(a[both] - b[both])))) / scale
    if error <= _DIFFERENT:
        return None
    return f"{name!r} differs by {error:.2g} of its root mean square"


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"
