"""Which numbers a lowered model computes in: what `--precision` and `--keep-fp32` ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pagdeploy.errors import UsageError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_LONGEST_PATTERN = 1000  # a manifest may hold any, and compiling takes the time of its length
_ELEMENT_TYPES = {"fp16": "float16", "bf16": "bfloat16"}

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Precision:
    """The precision of an engine.

    It is a property of the graph, not a wish to a builder: casts and quantization are written
    into the ONNX, so that every runtime that reads it computes in the same types. Only tf32,
    which ONNX has no type for, is a float32 graph and a permission.

    Attributes:
        name: One of `PRECISIONS`.
        keep_fp32: Regular expressions; a node stays float32 if one of them is found in its name,
            in the name of an output, or in that of a weight.
        ranges: What int8 needs: the interval to quantize, by name of the value.
        integer_kernels: Of int8: write it as onnxruntime's integer kernels on a CPU want it. What
            is never negative is uint8, every reader of a quantized value reads it rounded, and
            biases are int32. TensorRT refuses such graphs.

    Raises:
        UsageError: the name or an expression cannot be right, int8 comes without ranges, or
            float32 is to be kept where everything is float32.
    """

    name: str = "fp32"
    keep_fp32: tuple[str, ...] = ()
    ranges: Ranges | None = None
    integer_kernels: bool = False

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise UsageError(
                f"There is no precision {self.name!r}.",
                remedy=f"Choose one of: {', '.join(PRECISIONS)}.",
            )
        for pattern in self.keep_fp32:
            if len(pattern) > _LONGEST_PATTERN:
                raise UsageError(
                    f"A regular expression has {len(pattern)} characters.",
                    remedy=f"Give several of at most {_LONGEST_PATTERN}.",
                )
            try:
                re.compile(pattern)
            except (re.error, OverflowError) as problem:
                raise UsageError(
                    f"{pattern!r} is not a regular expression ({problem}).",
                    remedy="Put a backslash before characters that are meant literally.",
                ) from None
        if self.keep_fp32 and self.name in ("fp32", "tf32"):
            raise UsageError(
                f"With the precision {self.name} every node is float32 already.",
                remedy="Leave --keep-fp32 out, or ask for fp16, bf16 or int8.",
            )
        if self.name == "int8" and not self.ranges:
            raise UsageError(
                "The precision int8 needs the ranges of the values that it quantizes.",
                remedy="Give typical inputs with --calibration-data.",
            )

    @property
    def dtype(self) -> str:
        """Of what is neither quantized nor kept: "float32", "float16" or "bfloat16"."""
        return _ELEMENT_TYPES.get(self.name, "float32")

    @property
    def is_half(self) -> bool:
        """Whether values are stored in 16 bits."""
        return self.name in _ELEMENT_TYPES

    @property
    def opset(self) -> int:
        """The first opset that can say it: bfloat16 convolutions, int8 with a scale per channel."""
        return {"bf16": 22, "int8": 13}.get(self.name, 1)

    @property
    def allows_tf32(self) -> bool:
        """Whether float32 convolutions may round their operands to 10 bits.

        Elsewhere they must not: the gates that a half-precision graph keeps in float32 would be
        rounded behind its back.
        """
        return self.name == "tf32"
