"""PerforatedConv: a convolution that is evaluated only at the pixels that selected its branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagdeploy.ops.inference import tensor_type
from pagdeploy.ops.perforated_conv_reference import (
    Activation,
    Mode,
    output_size,
    perforated_conv,
    require_size,
)
from pagdeploy.ops.spec import Attribute, Op, Port

if TYPE_CHECKING:
    from onnx import TensorShapeProto
    from onnx.shape_inference import InferenceContext


def infer(context: InferenceContext) -> None:
    """Type and shape of Y, as far as they follow from the inputs.

    Raises:
        UsageError: sizes are known and contradict each other.
    """
    import onnx

    y = onnx.TypeProto()
    x, selection, w = (tensor_type(context, i) for i in range(3))
    y.tensor_type.elem_type = x.elem_type or w.elem_type
    shapes = [t.shape for t in (x, selection, w) if t.HasField("shape") and len(t.shape.dim) == 4]
    if len(shapes) == 3:
        dims = y.tensor_type.shape.dim
        dims.add().CopyFrom(shapes[0].dim[0])
        dims.add().CopyFrom(shapes[2].dim[0])
        for dim in _spatial_dims(context, *shapes[:2]):
            dims.add().CopyFrom(dim)
    context.set_output_type(0, y)


def _spatial_dims(
    context: InferenceContext, x: TensorShapeProto, selection: TensorShapeProto
) -> list[TensorShapeProto.Dimension]:
    """Ho and Wo: computed where H and W are known, otherwise as named by another input."""
    kernel_shape, strides, pads, dilations = (
        list(context.get_attribute(name).ints)
        for name in ("kernel_shape", "strides", "pads", "dilations")
    )
    image, mask = list(x.dim)[2:], list(selection.dim)[2:]
    sizes, mask_sizes = [dim.dim_value for dim in image], [dim.dim_value for dim in mask]
    if all(sizes):
        output = output_size(sizes, kernel_shape, strides, pads, dilations)
        if all(mask_sizes):
            require_size(mask_sizes, output)
        return [type(dim)(dim_value=value) for dim, value in zip(mask, output, strict=True)]
    if mask_sizes != [1, 1]:
        return mask  # the selection lies at output resolution
    grown = [pads[axis] + pads[axis + 2] for axis in range(2)]
    reach = [dilations[axis] * (kernel_shape[axis] - 1) for axis in range(2)]
    keeps_size = strides == [1, 1] and grown == reach
    return image if keeps_size else [type(dim)() for dim in mask]


# Scalars decide between the modes and the activations, so that one body serves every node: old
# runtimes confuse several bodies of one name. Nothing multiplies by a mask: 0 * NaN is NaN. Written
# out, the leaky relu is right everywhere: onnxruntime 1.16 makes a NaN of PRelu(inf), and
# onnx.reference cannot hand an attribute of the function on to LeakyRelu.
_BODY = """
    branch_i64 = Constant <value_int: int = @branch> ()
    branch_i32 = Cast <to: int = 6> (branch_i64)
    active = Equal (selection, branch_i32)
    c = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
              dilations: ints = @dilations, group: int = @group> (X, W, B)

    one = Constant <value_int: int = 1> ()
    two = Constant <value_int: int = 2> ()
    three = Constant <value_int: int = 3> ()
    mode = Constant <value_int: int = @mode> ()
    activation = Constant <value_int: int = @activation> ()
    alpha = Constant <value_float: float = @alpha> ()
    is_add = Equal (mode, one)
    is_relu = Equal (activation, one)
    is_relu6 = Equal (activation, two)
    is_leaky = Equal (activation, three)
    is_bounded = Or (is_relu, is_relu6)
    zero_f = Constant <value: tensor = float {0}> ()
    one_f = Constant <value: tensor = float {1}> ()
    six_f = Constant <value: tensor = float {6}> ()
    ninf_f = Constant <value: tensor = float {-inf}> ()
    pinf_f = Constant <value: tensor = float {inf}> ()
    slope_f = Where (is_leaky, alpha, one_f)
    low_f = Where (is_bounded, zero_f, ninf_f)
    high_f = Where (is_relu6, six_f, pinf_f)
    slope = CastLike (slope_f, X)
    low = CastLike (low_f, X)
    high = CastLike (high_f, X)
    zero = CastLike (zero_f, X)

    kept = Where (active, c, zero)
    sum = Add (base, kept)
    before = Where (is_add, sum, c)
    is_negative = Less (before, zero)
    scaled = Mul (before, slope)
    bent = Where (is_negative, scaled, before)
    after = Clip (bent, low, high)
    take = Or (active, is_add)
    Y = Where (take, after, base)
"""

PERFORATED_CONV = Op(
    name="PerforatedConv",
    doc="""Convolution evaluated only where it is used. With c = conv(X, W) + B and
s = (selection == branch), broadcast over H and W if the selection is (N, 1, 1, 1):

    replace:  Y = s ? activation(c) : base
    add:      Y = activation(base + (s ? c : 0))

In both modes c is never read at an inactive pixel, and in `replace` the base is never read at an
active one: a NaN or an Inf there stays unseen.""",
    source="PAG's bottleneck is `replace` with the input of the 3x3 convolution as base; DynConv, "
    "SACT and LAUDNet are `add` with the shortcut as base; PAG's MultiPool is a chain of `replace` "
    "over one selection.",
    inputs=(
        Port("X", "T", "(N, C, H, W): the input."),
        Port(
            "selection",
            "S",
            "(N, 1, Ho, Wo): the branch of each output pixel; or (N, 1, 1, 1): of each image.",
        ),
        Port("W", "T", "(M, C / group, kernel height, kernel width): the weights."),
        Port("B", "T", "(M,): the bias; zeros where there is none."),
        Port("base", "T", "(N, M, Ho, Wo): see above; or (1, 1, 1, 1): one value for all."),
    ),
    outputs=(Port("Y", "T", "(N, M, Ho, Wo): the output."),),
    attributes=(
        Attribute("kernel_shape", "ints", None, "Kernel height and width, as in W."),
        Attribute("strides", "ints", (1, 1), "Steps in y and x."),
        Attribute("pads", "ints", (0, 0, 0, 0), "Zeros at the top, left, bottom and right."),
        Attribute("dilations", "ints", (1, 1), "Distance between kernel taps in y and x."),
        Attribute("group", "int", 1, "Number of groups; C for a depthwise convolution."),
        Attribute("branch", "int", 1, "The value of the selection that makes a pixel active."),
        Attribute(
            "mode",
            "int",
            int(Mode.REPLACE),
            "Whether the result replaces the base or is added to it.",
            {int(mode): mode.name.lower() for mode in Mode},
        ),
        Attribute(
            "activation",
            "int",
            int(Activation.NONE),
            "The function behind the convolution.",
            {int(activation): activation.name.lower() for activation in Activation},
        ),
        Attribute("alpha", "float", 0.01, "Slope of the leaky relu below zero."),
    ),
    types={
        "T": ("tensor(float)", "tensor(float16)", "tensor(bfloat16)"),
        "S": ("tensor(int32)",),
    },
    body=_BODY,
    reference=perforated_conv,
    infer=infer,
    # Measured against the reference: 2e-6 and 5e-4 with float32 accumulation over some thousand
    # taps. The half-precision bounds leave room for one more rounding and for float16 tiles.
    bounds={"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2},
)
