"""What the user asks to have exported: the model with its weights, and inputs to try it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pagdeploy.errors import UsageError
from pagdeploy.exporters.factory import load_factory
from pagdeploy.exporters.weights import load_weights


def load_model(
    model: Any, weights: Path | None = None
) -> tuple[nn.Module | ExportedProgram, tuple[str, ...]]:
    """The model in evaluation mode, and the names of tensors that the checkpoint lacks.

    A dense twin's checkpoint fits a gated network; the gates then keep their initial values.

    Args:
        model: A module in the mode that its owner chose, a program, or what `load_factory` takes;
            a factory's fresh module is put in evaluation mode.
        weights: A checkpoint for a module.

    Raises:
        UsageError: the model cannot be found or made, or a program is to take a checkpoint.
        EnvironmentProblem, IncompatibleArtifact: as `load_factory` and `load_weights`.
    """
    module = load_factory(model) if isinstance(model, str) else model
    if isinstance(module, ExportedProgram):
        if weights is not None:
            raise UsageError(
                "A .pt2 program carries its own weights.", remedy="Leave --weights out."
            )
        return module, ()
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"An object of type {type(module).__name__} cannot be exported.",
            remedy="Give a torch.nn.Module, or where to find one.",
        )
    if isinstance(model, str):
        module.eval()
    return module, () if weights is None else load_weights(module, weights)


def is_program(model: nn.Module | ExportedProgram) -> bool:
    """Whether the model is a saved program, which holds its weights."""
    return isinstance(model, ExportedProgram)


def brings_inputs(model: nn.Module | ExportedProgram) -> bool:
    """Whether the model knows inputs to be tried on: a program that was saved with them."""
    return isinstance(model, ExportedProgram) and model.example_inputs is not None


def example_inputs(
    model: nn.Module | ExportedProgram, shapes: Mapping[str, Sequence[int]]
) -> tuple[Tensor, ...]:
    """Uniform noise in [0, 1), one tensor of each shape; always the same.

    Args:
        model: Whose first floating-point parameter has the dtype that inputs need; without one
            they are float32.
        shapes: By name of the input.
    """
    parameters = () if isinstance(model, ExportedProgram) else model.parameters()
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(list(shape), generator=generator) for shape in shapes.values()]
    return tuple(tensor.to(dtype) for tensor in noise)
