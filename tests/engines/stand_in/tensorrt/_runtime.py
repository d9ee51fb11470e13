"""The runtime: plans back into engines, which onnxruntime computes in what stands for the GPU."""

from __future__ import annotations

import ctypes
import json
import tempfile
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.passes import emulate_half
from tensorrt._network import creator_of
from tensorrt._registry import IPluginRegistry, get_plugin_registry
from tensorrt._types import (
    MAJOR,
    VERSION,
    Buffer,
    DataType,
    Dims,
    ILogger,
    LayerInformationFormat,
    Strict,
    TensorFormat,
    TensorIOMode,
    error,
    nptype,
)

HEADER_BYTES = 36


def computed(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime runs in place of a plan's model: our ops by their bodies, halves rounded."""
    module = ir.from_proto(model)
    emulate_half.run(module)
    return attach_bodies(ir.to_proto(module))


def read_plan(content: bytes) -> tuple[dict[str, Any], bytes]:
    """What was built, and the model."""
    facts, _, model = content[HEADER_BYTES:].partition(b"\n")
    return json.loads(facts), model


class Runtime(Strict):
    """Loads plans."""

    engine_host_code_allowed: bool = False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Buffer) -> ICudaEngine | None:
        """An engine, or None; the logger knows why."""
        content = bytes(serialized_engine)  # type: ignore[call-overload]
        facts, model = read_plan(content)
        built = list(content[24:28])
        here = [int(part) for part in (VERSION + ".0").split(".")][:4]
        compatible = "VERSION_COMPATIBLE" in facts["flags"]
        if built != here and not (compatible and built < here):
            error(self._logger, 1, "Serialization (Version tag does not match.)")
            return None
        if compatible and not self.engine_host_code_allowed:
            error(self._logger, 3, "API Usage Error (Host code is not allowed.)")
            return None
        inside = IPluginRegistry()  # of this runtime alone
        for library in facts["libraries"]:
            with tempfile.NamedTemporaryFile(suffix=".so") as file:
                file.write(bytes.fromhex(library))
                file.flush()
                inside.load_library(file.name)
        proto = onnx.ModelProto.FromString(model)
        for node in proto.graph.node:
            key = creator_of(node)
            if node.domain and not (key in inside or key in get_plugin_registry()):
                error(self._logger, 4, f"Internal Error (Cannot find plugin {node.op_type})")
                return None
        return ICudaEngine(facts, proto)


class ICudaEngine(Strict):
    """A plan in memory."""

    def __init__(self, facts: dict, model: onnx.ModelProto) -> None:
        self._facts = facts
        self._io = {name: (mode, kind, shape) for name, mode, kind, shape in facts["io"]}
        self._model = model

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self._io)

    @property
    def num_optimization_profiles(self) -> int:
        """At least one."""
        return max(1, len(self._facts["profiles"]))

    def get_tensor_name(self, index: int) -> str:
        """Of an input or output."""
        return list(self._io)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """Which of both it is."""
        return getattr(TensorIOMode, self._io[name][0])

    def get_tensor_dtype(self, name: str) -> DataType:
        """Its type."""
        return getattr(DataType, self._io[name][1])

    def get_tensor_shape(self, name: str) -> tuple:
        """With -1 where it is dynamic."""
        return tuple(self._io[name][2])

    def get_tensor_format(self, name: str, profile_index: int = 0) -> TensorFormat:
        """How it lies in memory."""
        return TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        """Whether it must be in host memory."""
        return False

    def create_engine_inspector(self) -> EngineInspector:
        """What tells of the layers."""
        return EngineInspector(self)

    def create_execution_context(self) -> IExecutionContext:
        """What runs it."""
        return IExecutionContext(self)

    if MAJOR >= 10:

        def get_aliased_input_tensor(self, name: str) -> Any:
            """None: outputs have memory of their own."""
            return None


class EngineInspector(Strict):
    """Tells of an engine's layers."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        """JSON; only names, unless the build was told to keep more."""
        facts = self._engine._facts
        layers = facts["layers"] if facts["detailed"] else [x["Name"] for x in facts["layers"]]
        return json.dumps({"Layers": layers, "Bindings": list(self._engine._io)})


class IOutputAllocator(Strict):
    """To be derived from."""


if MAJOR >= 10:

    class IDebugListener(Strict):
        """To be derived from."""


class IExecutionContext(Strict):
    """Runs an engine on what lies at the addresses that it is given."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._session = onnxruntime.InferenceSession(
            computed(engine._model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self._profile = 0
        self._shapes: dict[str, tuple] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    @property
    def active_optimization_profile(self) -> int:
        """Its index."""
        return self._profile

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose one."""
        self._profile = profile_index
        return 0 <= profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Dims) -> bool:
        """Whether the profile holds it."""
        wanted = self._engine.get_tensor_shape(name)
        profiles = self._engine._facts["profiles"]
        low, _, high = (wanted,) * 3
        if -1 in wanted:
            low, _, high = profiles[self._profile][name]
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple:
        """As set, or as built."""
        return self._shapes.get(name, self._engine.get_tensor_shape(name))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Where it lies."""
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        """Where it lies; 0 if that was not said."""
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator) -> bool:
        """Who makes room for an output."""
        self._allocators[name] = output_allocator
        return True

    if MAJOR >= 10:

        def set_all_tensors_debug_state(self, flag: bool) -> bool:
            """Nothing was marked."""
            return True

        def set_debug_listener(self, listener: IDebugListener) -> bool:
            """Nothing was marked."""
            return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Compute all outputs."""
        feeds = {}
        for name, (mode, _, _) in self._engine._io.items():
            if mode == "INPUT":
                array = np.empty(
                    self.get_tensor_shape(name), nptype(self._engine.get_tensor_dtype(name))
                )
                ctypes.memmove(array.ctypes.data, self._addresses[name], array.nbytes)
                feeds[name] = array
        names = [name for name, (mode, _, _) in self._engine._io.items() if mode == "OUTPUT"]
        for name, found in zip(names, self._session.run(names, feeds), strict=True):
            kind = nptype(self._engine.get_tensor_dtype(name))
            array = np.ascontiguousarray(found, kind)
            allocator = self._allocators[name]
            address = allocator.reallocate_output(name, 0, max(1, array.nbytes), 256)
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            allocator.notify_shape(name, array.shape)
        return True
