"""SegAwareConv: a convolution whose taps count by how near the embeddings of two pixels are."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from pagdeploy.ops.inference import tensor_type
from pagdeploy.ops.perforated_conv_reference import output_size
from pagdeploy.ops.seg_aware_conv_reference import (
    NAME,
    Distance,
    Normalization,
    Outside,
    require_centred,
    require_same_size,
    seg_aware_conv,
)
from pagdeploy.ops.spec import Attribute, Op, Port

if TYPE_CHECKING:
    from onnx.shape_inference import InferenceContext


def infer(context: InferenceContext) -> None:
    """Type and shape of Y, as far as they follow from the inputs.

    Raises:
        UsageError: sizes are known and contradict each other.
    """
    import onnx

    y = onnx.TypeProto()
    x, e, w = (tensor_type(context, i) for i in range(3))
    y.tensor_type.elem_type = x.elem_type or w.elem_type
    shapes = [t.shape for t in (x, e, w) if t.HasField("shape") and len(t.shape.dim) == 4]
    if len(shapes) == 3:
        kernel_shape, strides, pads, dilations = (
            list(context.get_attribute(name).ints)
            for name in ("kernel_shape", "strides", "pads", "dilations")
        )
        require_centred(kernel_shape, pads, dilations)
        image, embeddings = list(shapes[0].dim)[2:], list(shapes[1].dim)[2:]
        sizes, others = [d.dim_value for d in image], [d.dim_value for d in embeddings]
        if all(sizes) and all(others):
            require_same_size(others, sizes)
        dims = y.tensor_type.shape.dim
        dims.add().CopyFrom(shapes[0].dim[0])
        dims.add().CopyFrom(shapes[2].dim[0])
        known = sizes if all(sizes) else others
        if all(known):
            for size in output_size(known, kernel_shape, strides, pads, dilations, op=NAME):
                dims.add().dim_value = size
        else:
            grown = [pads[axis] + pads[axis + 2] for axis in range(2)]
            reach = [dilations[axis] * (kernel_shape[axis] - 1) for axis in range(2)]
            keeps_size = strides == [1, 1] and grown == reach
            for dim in image:
                dims.add().CopyFrom(dim if keeps_size else type(dim)())
    context.set_output_type(0, y)


# Windows are gathered by computed indices, so that one body serves every kernel; nothing is made
# by multiplying with zeros and ones. Distances and weights are float32 whatever the types are: a
# hardness of 50 makes a rounded distance a different weight. Softmax takes the axis as an
# attribute in every opset, which a maximum does not.
_BODY = """
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    two = Constant <value_int: int = 2> ()
    at_0 = Constant <value_ints: ints = [0]> ()
    at_1 = Constant <value_ints: ints = [1]> ()
    at_2 = Constant <value_ints: ints = [2]> ()
    at_4 = Constant <value_ints: ints = [4]> ()
    at_0_2 = Constant <value_ints: ints = [0, 2]> ()
    at_1_3 = Constant <value_ints: ints = [1, 3]> ()
    at_2_3 = Constant <value_ints: ints = [2, 3]> ()
    none = Constant <value_ints: ints = [0, 0]> ()
    kernel = Constant <value_ints: ints = @kernel_shape> ()
    step = Constant <value_ints: ints = @strides> ()
    border = Constant <value_ints: ints = @pads> ()
    spread = Constant <value_ints: ints = @dilations> ()
    batch = Shape <start: int = 0, end: int = 1> (X)
    channels = Shape <start: int = 1, end: int = 2> (X)
    size = Shape <start: int = 2, end: int = 4> (X)
    before = Slice (border, at_0, at_2)
    after = Slice (border, at_2, at_4)
    around = Concat <axis: int = 0> (none, before, none, after)
    padding = Add (before, after)
    padded = Add (size, padding)
    last = Sub (kernel, one)
    reach = Mul (last, spread)
    room_1 = Sub (padded, reach)
    room = Sub (room_1, one)
    steps = Div (room, step)
    out = Add (steps, one)

    kernel_y = Gather (kernel, zero)
    kernel_x = Gather (kernel, one)
    spread_y = Gather (spread, zero)
    spread_x = Gather (spread, one)
    step_y = Gather (step, zero)
    step_x = Gather (step, one)
    out_y = Gather (out, zero)
    out_x = Gather (out, one)
    tap_y = Range (zero, kernel_y, one)
    tap_x = Range (zero, kernel_x, one)
    offset_y = Mul (tap_y, spread_y)
    offset_x = Mul (tap_x, spread_x)
    column_y = Unsqueeze (offset_y, at_1)
    column_x = Unsqueeze (offset_x, at_1)
    pixel_y = Range (zero, out_y, one)
    pixel_x = Range (zero, out_x, one)
    start_y = Mul (pixel_y, step_y)
    start_x = Mul (pixel_x, step_x)
    y = Add (column_y, start_y)
    x = Add (column_x, start_x)

    x_padded = Pad (X, around)
    x_rows = Gather <axis: int = 2> (x_padded, y)
    x_windows = Gather <axis: int = 4> (x_rows, x)
    x_taps = Transpose <perm: ints = [0, 1, 2, 4, 3, 5]> (x_windows)

    e = Cast <to: int = 1> (E)
    e_padded = Pad (e, around)
    e_rows = Gather <axis: int = 2> (e_padded, y)
    e_windows = Gather <axis: int = 4> (e_rows, x)
    e_taps = Transpose <perm: ints = [0, 1, 2, 4, 3, 5]> (e_windows)
    middle = Div (kernel, two)
    middle_y = Gather (middle, zero)
    middle_x = Gather (middle, one)
    center_y = Gather <axis: int = 0> (y, middle_y)
    center_x = Gather <axis: int = 0> (x, middle_x)
    e_center_rows = Gather <axis: int = 2> (e_padded, center_y)
    e_center = Gather <axis: int = 3> (e_center_rows, center_x)
    e_center_tap = Unsqueeze (e_center, at_2_3)
    difference = Sub (e_taps, e_center_tap)
    absolute = Abs (difference)
    square = Mul (difference, difference)
    half = Constant <value_float: float = 0.5> ()
    half_square = Mul (square, half)
    distance_kind = Constant <value_int: int = @distance> ()
    is_l2 = Equal (distance_kind, two)
    terms = Where (is_l2, half_square, absolute)
    far = ReduceSum <keepdims: int = 1> (terms, at_1)

    before_y = Gather (before, zero)
    before_x = Gather (before, one)
    ends = Add (before, size)
    end_y = Gather (ends, zero)
    end_x = Gather (ends, one)
    from_y = GreaterOrEqual (y, before_y)
    from_x = GreaterOrEqual (x, before_x)
    to_y = Less (y, end_y)
    to_x = Less (x, end_x)
    inside_y = And (from_y, to_y)
    inside_x = And (from_x, to_x)
    inside_rows = Unsqueeze (inside_y, at_1_3)
    inside_columns = Unsqueeze (inside_x, at_0_2)
    inside = And (inside_rows, inside_columns)

    lambda = Cast <to: int = 1> (hardness)
    minus = Neg (lambda)
    scores_inside = Mul (far, minus)
    zero_f = Constant <value: tensor = float {0}> ()
    one_f = Constant <value: tensor = float {1}> ()
    ninf_f = Constant <value: tensor = float {-inf}> ()
    outside_kind = Constant <value_int: int = @outside> ()
    is_removed = Equal (outside_kind, one)
    score_outside = Where (is_removed, ninf_f, zero_f)
    scores_6 = Where (inside, scores_inside, score_outside)
    taps_0 = Mul (kernel_y, kernel_x)
    taps = Unsqueeze (taps_0, at_0)
    weight_shape = Concat <axis: int = 0> (batch, at_1, taps, out)
    scores = Reshape <allowzero: int = 1> (scores_6, weight_shape)

    plain = Exp (scores)
    total = ReduceSum <keepdims: int = 1> (plain, at_2)
    tiny = Constant <value_float: float = @epsilon> ()
    more = Add (total, tiny)
    bilateral = Div (plain, more)
    soft = Softmax <axis: int = 2> (scores)
    form = Constant <value_int: int = @normalization> ()
    is_soft = Equal (form, one)
    is_bilateral = Equal (form, two)
    kept = Where (is_bilateral, bilateral, plain)
    weights_f = Where (is_soft, soft, kept)
    weights = CastLike (weights_f, X)

    tap_shape = Concat <axis: int = 0> (batch, channels, taps, out)
    x_by_tap = Reshape <allowzero: int = 1> (x_taps, tap_shape)
    counted = Mul (x_by_tap, weights)
    rows = Mul (channels, taps)
    column_shape = Concat <axis: int = 0> (batch, rows, out)
    columns = Reshape <allowzero: int = 1> (counted, column_shape)
    filters = Shape <start: int = 0, end: int = 1> (W)
    depth = Shape <start: int = 1, end: int = 2> (W)
    products = Mul (depth, taps)
    flat_shape = Concat <axis: int = 0> (filters, products, at_1, at_1)
    flat = Reshape (W, flat_shape)
    Y = Conv <kernel_shape: ints = [1, 1], group: int = @group> (columns, flat, B)
"""


def _names(choices: type[IntEnum]) -> Mapping[int, str]:
    return {int(choice): choice.name.lower() for choice in choices}


SEG_AWARE_CONV = Op(
    name=NAME,
    doc="""Convolution whose neighbours count by their embedding's distance to the centre's. With
d(p, q) the distance of E at q to E at p, the pixel in the middle of the window, and
e(p, q) = exp(-hardness * d(p, q)):

    Y(p) = B + sum over q of W(q - p) w(p, q) X(q)

    none:       w = e
    softmax:    w = e / sum over q of e
    bilateral:  w = e / (epsilon + sum over q of e)

    l1:  d = sum |E(p) - E(q)|          l2:  d = sum (E(p) - E(q))^2 / 2

A neighbour outside of the image is zero, as in any convolution. Its distance is 0, so that it
counts in the sums like the centre (`outside` = equal); or it is not there at all, with e = 0
(removed). The centre lies inside of the image, and its e is 1: no sum is zero. Distances and
weights are of float32 precision or better. Every neighbour is read: a NaN in a window reaches its
output.""",
    source="Harley, Derpanis and Kokkinos, ICCV 2017, arXiv 1708.04607, as the official code "
    "computes it: `Im2dist` with `norm` 1 or 2 and `remove_bounds`. The released networks are "
    "`none` with the absolute value of a learned lambda as hardness; `NormConv` is `softmax`; the "
    "smoothing of class scores is `bilateral` with W = 1, one group a channel, and hardness 50.",
    inputs=(
        Port("X", "T", "(N, C, H, W): the input."),
        Port("E", "U", "(N, D, H, W): the embedding of each pixel."),
        Port("W", "T", "(M, C / group, kernel height, kernel width): the weights."),
        Port("B", "T", "(M,): the bias; zeros where there is none."),
        Port("hardness", "U", "(): lambda; how fast a weight falls with the distance."),
    ),
    outputs=(Port("Y", "T", "(N, M, Ho, Wo): the output."),),
    attributes=(
        Attribute("kernel_shape", "ints", None, "Kernel height and width, as in W; both odd."),
        Attribute("strides", "ints", (1, 1), "Steps in y and x."),
        Attribute(
            "pads",
            "ints",
            (0, 0, 0, 0),
            "Zeros at the top, left, bottom and right; at most dilation * (kernel // 2).",
        ),
        Attribute("dilations", "ints", (1, 1), "Distance between kernel taps in y and x."),
        Attribute("group", "int", 1, "Number of groups; C for a depthwise convolution."),
        Attribute(
            "distance",
            "int",
            int(Distance.L1),
            "Between two embeddings.",
            _names(Distance),
        ),
        Attribute(
            "normalization",
            "int",
            int(Normalization.NONE),
            "What the weights are divided by.",
            _names(Normalization),
        ),
        Attribute(
            "outside",
            "int",
            int(Outside.EQUAL),
            "What a neighbour outside of the image is taken for.",
            _names(Outside),
        ),
        Attribute("epsilon", "float", 1e-4, "Of the bilateral form."),
    ),
    # The embeddings have a type of their own: half precision of X must not round them.
    types={
        "T": ("tensor(float)", "tensor(float16)", "tensor(bfloat16)"),
        "U": ("tensor(float)", "tensor(float16)", "tensor(bfloat16)"),
    },
    body=_BODY,
    reference=seg_aware_conv,
    infer=infer,
    # Those of PerforatedConv: a rounded weight adds as much as a rounded input.
    bounds={"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2},
    has_plugin=False,
)
