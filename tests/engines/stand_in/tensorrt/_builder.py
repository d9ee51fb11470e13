"""The builder and its configuration: from a network to a plan with TensorRT's header."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorrt._network import ILayer, INetworkDefinition
from tensorrt._types import (
    MAJOR,
    VERSION,
    WEAK_FLAGS,
    Buffer,
    BuilderFlag,
    DataType,
    Dims,
    HardwareCompatibilityLevel,
    IHostMemory,
    ILogger,
    LayerType,
    MemoryPoolType,
    ProfilingVerbosity,
    Strict,
    error,
)

_MAGIC = f"stand-in {VERSION}\n".encode()
_FLOATS = ("FLOAT", "HALF", "BF16")
_WORDS = {"FLOAT": "FP32", "HALF": "FP16"}


class IOptimizationProfile(Strict):
    """Shapes of the dynamic inputs."""

    def __init__(self) -> None:
        self._shapes: dict[str, tuple] = {}

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:
        """Of one input."""
        self._shapes[input] = (list(min), list(opt), list(max))


class ITimingCache(Strict):
    """Measurements: the names of the layers that were measured."""

    def __init__(self, lines: set) -> None:
        self._lines = lines

    def serialize(self) -> IHostMemory:
        """As bytes."""
        return IHostMemory(_MAGIC + "\n".join(sorted(self._lines)).encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Take over what another has."""
        self._lines |= input_cache._lines
        return True


class IBuilderConfig(Strict):
    """How a network is to be built."""

    profiling_verbosity: ProfilingVerbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    builder_optimization_level: int = 3
    hardware_compatibility_level: HardwareCompatibilityLevel = HardwareCompatibilityLevel.NONE
    plugins_to_serialize: list[str]
    if MAJOR >= 10:
        progress_monitor: IProgressMonitor

    def __init__(self) -> None:
        self.plugins_to_serialize = []
        self._flags = {BuilderFlag.TF32}
        self._profiles: list[IOptimizationProfile] = []
        self._pools: dict[str, int] = {}
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        """Turn it on."""
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        """Turn it off."""
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        """In bytes."""
        self._pools[pool.name] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Its index, or -1."""
        if any(not a <= b <= c for s in profile._shapes.values() for a, b, c in zip(*s)):  # noqa: B905
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Buffer) -> ITimingCache | None:
        """One with that content; None if another version wrote it, or nobody."""
        content = bytes(serialized_timing_cache)  # type: ignore[call-overload]
        if content and not content.startswith(_MAGIC):
            return None
        return ITimingCache(set(content[len(_MAGIC) :].decode().split("\n")) - {""})

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Measure into this one."""
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        """The one that was set."""
        return self._cache


if MAJOR >= 10:

    class IProgressMonitor(Strict):
        """To be derived from."""


class Builder(Strict):
    """Makes networks, configurations and plans."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        """An empty one."""
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        """The default."""
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        """An empty one."""
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        """A plan, or None; the logger knows why."""
        for fault in _faults(network, config):
            error(self._logger, 4, f"API Usage Error ({fault})")
            return None
        if not _told(config):
            return None
        if config._cache is not None:
            config._cache._lines |= {layer.name for layer in network._layers}
        facts = {
            "flags": sorted(flag.name for flag in config._flags),
            "level": config.builder_optimization_level,
            "pools": config._pools,
            "hardware": config.hardware_compatibility_level.name,
            "detailed": config.profiling_verbosity == ProfilingVerbosity.DETAILED,
            "profiles": [profile._shapes for profile in config._profiles],
            "libraries": [Path(path).read_bytes().hex() for path in config.plugins_to_serialize],
            "io": [
                [t.name, k, t.dtype.name, t.shape]
                for k, tensors in (("INPUT", network._inputs), ("OUTPUT", network._outputs))
                for t in tensors
            ],
            "layers": [
                _inspected(layer, network, config)
                for layer in network._layers
                if layer.type != LayerType.CONSTANT  # part of what reads it
            ],
        }
        return IHostMemory(write_plan(facts, network._model.SerializeToString()))


def write_plan(facts: dict[str, Any], model: bytes) -> bytes:
    """A plan file: TensorRT's header, a line of JSON, the model."""
    body = json.dumps(facts).encode() + b"\n" + model
    version = [int(part) for part in (VERSION + ".0").split(".")][:4]
    return struct.pack("<4sIQQ4B4sI", b"ftrt", 0, 2, 36 + len(body), *version, b"ftrt", 0) + body


def _faults(network: INetworkDefinition, config: IBuilderConfig) -> Iterator[str]:
    asked = [layer for layer in network._layers if "precision" in vars(layer) or layer._types]
    if network._strong and (config._flags & WEAK_FLAGS or asked):
        yield "precisions are asked for in a strongly typed network"
    kinds = {t.dtype.name for layer in network._layers for t in layer._outputs}
    if not network._strong:
        if "HALF" in kinds and BuilderFlag.FP16 not in config._flags:
            yield "FP16 is not enabled"
        if any(x.type == LayerType.QUANTIZE for x in network._layers):
            if BuilderFlag.INT8 not in config._flags:
                yield "INT8 is not enabled"
    if config.plugins_to_serialize and BuilderFlag.VERSION_COMPATIBLE not in config._flags:
        yield "only a version-compatible plan holds libraries"
    dynamic = {tensor.name: tensor.shape for tensor in network._inputs if -1 in tensor.shape}
    if dynamic and not config._profiles:
        yield "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for profile in config._profiles:
        for name, shape in dynamic.items():
            low, _, high = profile._shapes.get(name, ([], [], []))
            if len(low) != len(shape) or any(
                size not in (-1, a, b) for size, a, b in zip(shape, low, high, strict=True)
            ):
                yield f"the profile does not fit {name}"
    if MAJOR >= 10 and BuilderFlag.ERROR_ON_TIMING_CACHE_MISS in config._flags:
        known = config._cache._lines if config._cache else set()
        if any(layer.name not in known for layer in network._layers):
            yield "a measurement is not in the timing cache"


def _told(config: IBuilderConfig) -> bool:
    """Tell the monitor; whether it lets the build go on."""
    monitor = getattr(config, "progress_monitor", None)
    if monitor is None:
        return True
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Timing", "Building Engine", 9)
    going = [monitor.step_complete("Timing", 0)]
    monitor.phase_finish("Timing")
    going += [monitor.step_complete("Building Engine", step) for step in (0, 1)]
    monitor.phase_finish("Building Engine")
    return all(going)


def _inspected(layer: ILayer, network: INetworkDefinition, config: IBuilderConfig) -> dict:
    """A layer as the engine inspector tells it."""
    words = {LayerType.PLUGIN_V2: "PluginV2", LayerType.CONVOLUTION: "CaskConvolution"}
    if MAJOR >= 10:
        words[LayerType.PLUGIN_V3] = "PluginV3"

    def told(tensor: Any, kind: DataType) -> dict:
        word = _WORDS.get(kind.name, kind.name)
        form = {"Format/Datatype": f"Row major linear {word}"}
        if MAJOR >= 11:
            form = {"Format": "Row major linear", "Datatype": kind.name.title()}
        return {"Name": tensor.name, "Dimensions": list(tensor.shape), **form}

    kinds = [t.dtype for t in layer._outputs]
    if not network._strong:
        obeyed = BuilderFlag.OBEY_PRECISION_CONSTRAINTS in config._flags
        asked = layer._types if obeyed and "precision" in vars(layer) else {}
        fallback = {True: DataType.FLOAT}
        kinds = [asked.get(k, fallback.get(d.name in _FLOATS, d)) for k, d in enumerate(kinds)]
    return {
        "Name": layer.name,
        "LayerType": words.get(layer.type, layer.type.name.title()),
        "Precision": getattr(layer, "precision", DataType.INT32).name,
        "Inputs": [told(t, t.dtype) for t in layer._inputs if t is not None],
        "Outputs": [told(t, k) for t, k in zip(layer._outputs, kinds, strict=True)],
    }
