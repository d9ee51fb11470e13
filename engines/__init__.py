"""The back ends: a portable ONNX file in, something that runs out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pagdeploy.errors import UsageError

if __name__ != "pagdeploy.engines":  # the repository's root on sys.path would load a second copy
    raise ImportError("import pagdeploy.engines, not engines")

if TYPE_CHECKING:
    from pagdeploy.engines.base import Engine

# Official builds of onnxruntime from 1.29 on tell their makers of every session. Only this keeps
# them from it, and only before they are imported; who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def all_engines() -> list[Engine]:
    """Every engine, whether it is available here or not."""
    from pagdeploy.engines.ort import OnnxRuntimeCudaEngine, OnnxRuntimeEngine
    from pagdeploy.engines.trt import TensorRtEngine
    from pagdeploy.engines.trt_rtx import TensorRtRtxEngine

    return [OnnxRuntimeEngine(), OnnxRuntimeCudaEngine(), TensorRtEngine(), TensorRtRtxEngine()]


def engine_named(name: str) -> Engine:
    """The engine that the user asked for.

    Raises:
        UsageError: there is no engine of that name.
    """
    engines = all_engines()
    for engine in engines:
        if engine.name == name:
            return engine
    raise UsageError(
        f"There is no engine named {name!r}.",
        remedy=f"Choose one of: {', '.join(engine.name for engine in engines)}.",
    )
