"""PAGGate: for every pixel, which branch of the network it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pagdeploy.errors import UsageError
from pagdeploy.ops.inference import tensor_type
from pagdeploy.ops.spec import Op, Port

if TYPE_CHECKING:
    from onnx.shape_inference import InferenceContext


def pag_gate(logits: NDArray[Any]) -> NDArray[np.int32]:
    """Hard argmax over the branches; the lowest index wins a tie.

    Args:
        logits: Float array of shape (N, K, H, W), one channel a branch.

    Returns:
        The selection, int32 of shape (N, 1, H, W), values in 0..K-1.

    Raises:
        UsageError: the logits are not of rank 4 or have no channel.
    """
    if logits.ndim != 4 or logits.shape[1] == 0:
        raise UsageError(
            f"The logits of PAGGate have the shape {logits.shape}, not (N, K, H, W) with K >= 1.",
            remedy="Give one channel per branch on axis 1.",
        )
    best: NDArray[np.intp] = np.argmax(logits, axis=1, keepdims=True)  # (N, 1, H, W)
    return best.astype(np.int32)


def infer(context: InferenceContext) -> None:
    """Type and shape of the selection: those of the logits, int32, with one channel."""
    import onnx

    logits = tensor_type(context, 0)
    selection = onnx.TypeProto()
    selection.tensor_type.elem_type = onnx.TensorProto.INT32
    if logits.HasField("shape"):
        selection.tensor_type.shape.CopyFrom(logits.shape)
        if len(logits.shape.dim) == 4:
            selection.tensor_type.shape.dim[1].dim_value = 1
    context.set_output_type(0, selection)


PAG_GATE = Op(
    name="PAGGate",
    doc="For every pixel the index of its largest logit. The lowest index wins a tie. What a NaN "
    "selects is not specified.",
    source="Pixel-wise Attentional Gating (Kong and Fowlkes 2018, arXiv 1805.01556): at inference "
    "the Gumbel-softmax over the K branches becomes a plain argmax, because softmax keeps the "
    "order of the logits.",
    inputs=(Port("logits", "T", "(N, K, H, W): one channel of gate scores per branch."),),
    outputs=(Port("selection", "S", "(N, 1, H, W): the branch of each pixel, in 0..K-1."),),
    attributes=(),
    types={
        "T": ("tensor(float)", "tensor(float16)", "tensor(bfloat16)"),
        "S": ("tensor(int32)",),
    },
    body="""
        index = ArgMax <axis: int = 1, keepdims: int = 1, select_last_index: int = 0> (logits)
        selection = Cast <to: int = 6> (index)
    """,
    reference=pag_gate,
    infer=infer,
    bounds={"float32": 0.0, "float16": 0.0, "bfloat16": 0.0},
)
