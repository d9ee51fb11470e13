"""What the shape inference of every op asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import TypeProto
    from onnx.shape_inference import InferenceContext


def tensor_type(context: InferenceContext, index: int) -> TypeProto.Tensor:
    """What is known of an input; of what a foreign operator makes, nothing may be."""
    import onnx

    known = context.get_input_type(index)
    return onnx.TypeProto.Tensor() if known is None else known.tensor_type
