"""What a model is held to once it rounds: the portable model in a precision, and its warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import Bundle
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.measure.ranges import read_ranges
from pagdeploy.precision import Precision
from pagdeploy.verbs.calibrate import calibrate, precision_warnings

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


def settle(
    portable: onnx.ModelProto,
    precision: str,
    keep_fp32: Sequence[str] = (),
    calibration: Arrays | None = None,
    *,
    integer_kernels: bool = False,
) -> Precision:
    """The precision that is asked for, with the ranges that int8 needs.

    Raises:
        UsageError: as `Precision` and `calibrate`, or the calibration would be ignored.
    """
    if calibration is not None and precision not in ("int8", "fp16"):
        raise UsageError(
            f"The precision {precision} needs no calibration data.",
            remedy="Leave --calibration-data out, or ask for int8 or fp16.",
        )
    ranges = None
    if precision == "int8" and calibration is not None:
        seen = calibrate(portable, calibration)
        ranges = {name: value.interval for name, value in seen.items()}
    return Precision(precision, tuple(keep_fp32), ranges, integer_kernels)


def in_precision(portable: onnx.ModelProto, precision: Precision) -> onnx.ModelProto | None:
    """The portable model in a precision, so that onnxruntime runs it; None for float32 itself.

    Raises:
        UsageError: as `pipeline.lower`.
    """
    from pagdeploy.pipeline import lower

    if not precision.is_half and precision.name != "int8":
        return None
    return lower(portable, "plugin", precision=precision, emulated=True)


def as_built(bundle: Bundle, portable: onnx.ModelProto) -> onnx.ModelProto | None:
    """As `in_precision`, with what the bundle's manifest says.

    Raises:
        IncompatibleArtifact: the model cannot be of that precision, or the calibration is damaged.
    """
    try:
        return in_precision(portable, built_precision(bundle))
    except UsageError as problem:
        raise _contradiction(bundle, problem) from None


def built_precision(bundle: Bundle) -> Precision:
    """The precision that the bundle's manifest tells, with its calibration.

    Raises:
        IncompatibleArtifact: there is no such precision, or the calibration is damaged.
    """
    from pagdeploy.engines import engine_named

    info = bundle.manifest.engine
    ranges = None
    if info.calibration is not None:
        seen = read_ranges(bundle.file(info.calibration))
        ranges = {name: value.interval for name, value in seen.items()}
    try:
        integers = info.precision == "int8" and engine_named(info.flavour).integer_kernels
        return Precision(info.precision, tuple(info.keep_fp32), ranges, integers)
    except UsageError as problem:
        raise _contradiction(bundle, problem) from None


def _contradiction(bundle: Bundle, problem: UsageError) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        f"{bundle.path} cannot be of the precision that its manifest tells"
        f" ({problem.message.rstrip('.')}).",
        remedy="Build it again.",
    )


def warnings_for(portable: onnx.ModelProto, precision: Precision, typical: Arrays) -> list[str]:
    """What the ranges of the values on typical inputs say against the precision."""
    if precision.name != "fp16":
        return []
    found = precision_warnings(portable, calibrate(portable, typical), precision)
    return [warning.message for warning in found]
