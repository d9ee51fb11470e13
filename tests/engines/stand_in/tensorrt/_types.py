"""Enumerations as the chosen version has them, and classes as strict as pybind11's."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import types
import typing
from typing import Any

import numpy as np

VERSION = os.environ.get("STAND_IN_TENSORRT", "10.16.1.11")
MAJOR = int(VERSION.partition(".")[0])


class _Enum(enum.Enum):
    def __int__(self) -> int:
        return int(self.value)


def enumeration(name: str, *members: str, start: int = 0) -> Any:
    return _Enum(name, " ".join(members), start=start, module=__name__)


_TYPES = "FLOAT HALF INT8 INT32 BOOL UINT8 FP8"
DataType = enumeration("DataType", _TYPES, "BF16 INT64 INT4" if MAJOR >= 10 else "")
_WEAK = "FP16 INT8 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS"
BuilderFlag = enumeration(
    "BuilderFlag",
    "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS DIRECT_IO",
    "VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME",
    _WEAK if MAJOR < 11 else "",
    "BF16" if MAJOR == 10 else "",
    "ERROR_ON_TIMING_CACHE_MISS STRIP_PLAN" if MAJOR >= 10 else "",
)
WEAK_FLAGS = {f for f in BuilderFlag if f.name in (*_WEAK.split(), "BF16")}
MemoryPoolType = enumeration(
    "MemoryPoolType",
    "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM",
    "TACTIC_SHARED_MEMORY" if MAJOR >= 10 else "",
)
LayerType = enumeration(
    "LayerType",
    "CONVOLUTION CAST ACTIVATION POOLING SOFTMAX CONCATENATION ELEMENTWISE PLUGIN UNARY SHUFFLE",
    "REDUCE TOPK GATHER CONSTANT IDENTITY PLUGIN_V2 SLICE SHAPE SELECT QUANTIZE DEQUANTIZE",
    "PLUGIN_V3" if MAJOR >= 10 else "",
)
HardwareCompatibilityLevel = enumeration(
    "HardwareCompatibilityLevel",
    "NONE AMPERE_PLUS",
    "SAME_COMPUTE_CAPABILITY" if MAJOR >= 10 else "",
)
ProfilingVerbosity = enumeration("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
LayerInformationFormat = enumeration("LayerInformationFormat", "ONELINE JSON")
TensorIOMode = enumeration("TensorIOMode", "NONE INPUT OUTPUT")
TensorFormat = enumeration("TensorFormat", "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 HWC")


def nptype(trt_type: Any) -> type:
    """numpy's type, where it has one."""
    known = {
        "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32,
        "INT64": np.int64, "BOOL": np.bool_, "UINT8": np.uint8,
    }  # fmt: skip
    if trt_type.name not in known:
        raise TypeError(f"Could not resolve {trt_type} to an equivalent numpy datatype")
    return known[trt_type.name]


class Dims(tuple[int, ...]):
    """An annotation: a list or tuple of at most eight integers."""


class Buffer:
    """An annotation: what offers its bytes."""


def fits(value: Any, kind: Any) -> bool:
    """Whether pybind11 would take the value."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        return isinstance(value, list) and all(fits(each, inner) for each in value)
    if kind is Dims:
        return (
            isinstance(value, list | tuple)
            and len(value) <= 8
            and all(fits(each, int) for each in value)
        )
    if kind is Buffer:
        return isinstance(value, bytes | bytearray | memoryview | IHostMemory)
    if kind is int:
        return hasattr(value, "__index__") and not isinstance(value, bool | _Enum)
    return kind is Any or isinstance(value, kind)


_hints = functools.cache(typing.get_type_hints)


def _checked(function: Any) -> Any:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        hints = _hints(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints and not fits(value, hints[name]):
                raise TypeError(
                    f"{function.__qualname__}(): incompatible function arguments: {name}={value!r}"
                )
        return function(*args, **kwargs)

    return call


class Strict:
    """Base of a bound class: no attribute but the declared, and none of another type."""

    def __init_subclass__(cls) -> None:
        if cls.__module__.startswith("tensorrt."):  # not what a user derives
            for name, member in list(vars(cls).items()):
                if inspect.isfunction(member) and (name == "__init__" or name[0] != "_"):
                    setattr(cls, name, _checked(member))

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self).__module__.startswith("tensorrt.") and name[0] != "_":
            hints = _hints(type(self))
            if name not in hints:
                raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r} to set")
            if not fits(value, hints[name]):
                raise TypeError(f"{type(self).__name__}.{name}: incompatible value {value!r}")
        super().__setattr__(name, value)


class IHostMemory(Strict):
    """Bytes that TensorRT owns."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def nbytes(self) -> int:
        """How many."""
        return len(self._content)

    def __bytes__(self) -> bytes:
        return self._content


class ILogger(Strict):
    """To be derived from; `log` gets what is said."""

    Severity = enumeration("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


def error(logger: Any, code: int, text: str) -> None:
    """Say it as TensorRT does."""
    logger.log(ILogger.Severity.ERROR, f"IBuilder::x: Error Code {code}: {text}")
