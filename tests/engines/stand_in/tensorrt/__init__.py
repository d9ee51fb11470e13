"""A stand-in for NVIDIA's bindings: enough of the API to build a plan and to run it, on a CPU.

Names, signatures and refusals are those of TensorRT 8.6, 10 or 11, whichever STAND_IN_TENSORRT
names; what that version lacks is lacking here, and an argument of a wrong type is a TypeError. The
"engine" is the ONNX model, computed by onnxruntime in host memory.
"""

# ruff: noqa: F401  (all that it has are the names)

from __future__ import annotations

from tensorrt._builder import Builder, IBuilderConfig, IOptimizationProfile, ITimingCache
from tensorrt._network import (
    ILayer,
    INetworkDefinition,
    ITensor,
    NetworkDefinitionCreationFlag,
    OnnxParser,
    ParserError,
)
from tensorrt._registry import IPluginRegistry, get_plugin_registry
from tensorrt._runtime import (
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
    IOutputAllocator,
    Runtime,
)
from tensorrt._types import (
    MAJOR,
    VERSION,
    BuilderFlag,
    DataType,
    HardwareCompatibilityLevel,
    IHostMemory,
    ILogger,
    LayerInformationFormat,
    LayerType,
    MemoryPoolType,
    ProfilingVerbosity,
    TensorFormat,
    TensorIOMode,
    nptype,
)

__version__ = VERSION

float32, float16, int32, int8 = DataType.FLOAT, DataType.HALF, DataType.INT32, DataType.INT8
bool, uint8 = DataType.BOOL, DataType.UINT8  # as in the original
if MAJOR >= 10:
    from tensorrt._builder import IProgressMonitor
    from tensorrt._runtime import IDebugListener

    int64, bfloat16 = DataType.INT64, DataType.BF16

del MAJOR, VERSION
