"""The ops that only the native lowering writes, as ONNX schemas; docs/plugins.md says what they do.

They are no part of the portable format: models with them run in onnxruntime with our op library.
The schemas let the checker and shape inference see through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pagdeploy.ops.inference import tensor_type
from pagdeploy.ops.perforated_conv import PERFORATED_CONV

if TYPE_CHECKING:
    import onnx
    import onnx.defs
    from onnx.shape_inference import InferenceContext

CPU_DOMAIN = "pagdeploy.cpu"
CPU_VERSION = 1

_BASE_BEHIND_Y = 9  # the base's place where the result has a scale of its own
_REACH = ("kernel_shape", "strides", "pads", "dilations")


def schemas() -> list[onnx.defs.OpSchema]:
    """Of the lists of pixels, the convolutions, the changes of layout, and the means."""
    from onnx.defs import OpSchema

    kinds = {
        "int": OpSchema.AttrType.INT,
        "ints": OpSchema.AttrType.INTS,
        "float": OpSchema.AttrType.FLOAT,
    }
    known = {a.name: OpSchema.Attribute(a.name, kinds[a.kind]) for a in PERFORATED_CONV.attributes}
    inactive = OpSchema.Attribute("inactive", OpSchema.AttrType.INT)
    branch = known.pop("branch")
    reach = [known[name] for name in _REACH]
    optional = OpSchema.FormalParameterOption.Optional
    i32, i64, f32 = "tensor(int32)", "tensor(int64)", "tensor(float)"

    def made(
        name: str,
        inputs: dict[str, str],
        output: str,
        attributes: list[onnx.defs.OpSchema.Attribute],
    ) -> onnx.defs.OpSchema:
        return OpSchema(
            name,
            CPU_DOMAIN,
            CPU_VERSION,
            inputs=[
                OpSchema.FormalParameter(n, t, param_option=optional)
                if "PerforatedConv" in name and n == "pixels"
                else OpSchema.FormalParameter(n, t)
                for n, t in inputs.items()
            ],
            outputs=[OpSchema.FormalParameter("Y", output)],
            attributes=attributes,
        )

    head = {"X": f32, "W": f32, "B": f32}
    tail = {"base": f32, "pixels": i32}
    both = [*known.values(), inactive]
    inner = [
        OpSchema.Attribute("inner_activation", OpSchema.AttrType.INT),
        OpSchema.Attribute("inner_alpha", OpSchema.AttrType.FLOAT),
    ]
    u8, i8 = "tensor(uint8)", "tensor(int8)"
    quantized = {
        "x": u8, "x_scale": f32, "x_zero_point": u8,
        "w": i8, "w_scale": f32, "w_zero_point": i8,
    }  # fmt: skip
    about_y = {"y_scale": f32, "y_zero_point": u8}
    rest = {"B": i32, "base": u8, "base_scale": f32, "base_zero_point": u8, "pixels": i32}
    result = [
        made("ActivePixels", {"selection": i32}, i32, [branch]),
        made("SupportPixels", {"pixels": i32, "size": i64}, i32, reach),
        made("PerforatedConvNhwc", head | tail, f32, both),
        made("PerforatedConvPairNhwc", head | {"W2": f32, "B2": f32} | tail, f32, [*both, *inner]),
        made("ToChannelsLast", {"X": f32}, f32, [known["activation"], known["alpha"]]),
        made("ToChannelsFirst", {"X": f32}, f32, []),
        made("ChannelMeansNhwc", {"X": f32}, f32, []),
        made("QLinearPerforatedConvNhwc", quantized | about_y | rest, u8, both),
        made("QLinearPerforatedConvNhwcFloat", quantized | rest, f32, both),
    ]
    inferences: list[Callable[[InferenceContext], None]] = [
        _infer_list, _infer_list, partial(_infer_conv, 3), partial(_infer_conv, 5),
        partial(_infer_layout, (0, 2, 3, 1)), partial(_infer_layout, (0, 3, 1, 2)),
        partial(_infer_layout, (0, None, None, 3)),
        partial(_infer_conv, _BASE_BEHIND_Y), partial(_infer_conv, 7),
    ]  # fmt: skip
    for one, infer in zip(result, inferences, strict=True):
        one.set_type_and_shape_inference_function(infer)
    return result


def _infer_list(context: InferenceContext) -> None:
    """int32 (n,): how many shows at run time."""
    import onnx

    pixels = onnx.helper.make_tensor_type_proto(onnx.TensorProto.INT32, [None])
    context.set_output_type(0, pixels)


def _infer_conv(base_input: int, context: InferenceContext) -> None:
    """Of the base's shape, or of rank 4 if that is one value; uint8 if there is a y_scale."""
    import onnx

    kind = onnx.TensorProto.UINT8 if base_input == _BASE_BEHIND_Y else onnx.TensorProto.FLOAT
    result = onnx.helper.make_tensor_type_proto(kind, [None] * 4)
    base = tensor_type(context, base_input)
    sizes = [dim.dim_value for dim in base.shape.dim]
    if base.HasField("shape") and len(sizes) == 4 and sizes != [1] * 4:
        result.tensor_type.shape.CopyFrom(base.shape)
    context.set_output_type(0, result)


def _infer_layout(axes: tuple[int | None, ...], context: InferenceContext) -> None:
    """float32, with those axes of the input, if their sizes are known; None is an axis of 1."""
    import onnx

    result = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None] * 4)
    given = tensor_type(context, 0).shape.dim
    if len(given) == 4:
        for axis, dim in zip(axes, result.tensor_type.shape.dim, strict=True):
            if axis is None:
                dim.dim_value = 1
            else:
                dim.CopyFrom(given[axis])
    context.set_output_type(0, result)
