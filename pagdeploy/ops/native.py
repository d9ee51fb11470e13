"""The ops that only the native lowering writes, as ONNX schemas; docs/plugins.md says what they do.

They are no part of the portable format: models with them run in onnxruntime with our op library.
The schemas let the checker and shape inference see through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pagdeploy.ops.perforated_conv import PERFORATED_CONV

if TYPE_CHECKING:
    import onnx
    import onnx.defs
    from onnx.shape_inference import InferenceContext

CPU_DOMAIN = "pagdeploy.cpu"
CPU_VERSION = 1

_REACH = ("kernel_shape", "strides", "pads", "dilations")


def schemas() -> list[onnx.defs.OpSchema]:
    """ActivePixels, SupportPixels, PerforatedConvNhwc and PerforatedConvPairNhwc."""
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
                if name.startswith("PerforatedConv") and n == "pixels"
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
    result = [
        made("ActivePixels", {"selection": i32}, i32, [branch]),
        made("SupportPixels", {"pixels": i32, "size": i64}, i32, reach),
        made("PerforatedConvNhwc", head | tail, f32, both),
        made("PerforatedConvPairNhwc", head | {"W2": f32, "B2": f32} | tail, f32, [*both, *inner]),
    ]
    inferences: list[Callable[[InferenceContext], None]] = [
        _infer_list, _infer_list, partial(_infer_conv, 3), partial(_infer_conv, 5),
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
    """float32, of the base's shape, unless that is one value: then of rank 4."""
    import onnx

    result = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None] * 4)
    base = context.get_input_type(base_input).tensor_type
    sizes = [dim.dim_value for dim in base.shape.dim]
    if base.HasField("shape") and len(sizes) == 4 and sizes != [1] * 4:
        result.tensor_type.shape.CopyFrom(base.shape)
    context.set_output_type(0, result)
