"""The built plugin library in the registries of real TensorRT lean runtimes; needs no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.conftest import Child, plugin_library, wheels

pytestmark = pytest.mark.trt

PROGRAM = """
import json, sys
import numpy as np
import tensorrt_lean_bindings as trt

registry = trt.get_plugin_registry()
library = registry.load_library(sys.argv[1])
seen = {"loaded": library is not None, "again": registry.load_library(sys.argv[1]) is not None}


def fields(**values):
    def field(name, value):
        kind = trt.PluginFieldType.FLOAT32 if value.dtype == np.float32 else (
            trt.PluginFieldType.INT32)
        return trt.PluginField(name, value, kind)
    return trt.PluginFieldCollection([field(name, value) for name, value in values.items()])


good = {
    "kernel_shape": np.array([3, 3], np.int32), "strides": np.array([1, 1], np.int32),
    "pads": np.array([1, 1, 1, 1], np.int32), "dilations": np.array([1, 1], np.int32),
    "group": np.array([1], np.int32), "branch": np.array([1], np.int32),
    "mode": np.array([0], np.int32), "activation": np.array([3], np.int32),
    "alpha": np.array([0.25], np.float32),
}
bad = dict(good, strides=np.array([1], np.int32))
for space in ("pagdeploy", ""):
    for name, attributes in (("PAGGate", {}), ("PerforatedConv", good)):
        creator = registry.get_creator(name, "1", space)
        entry = {"fields": [field.name for field in creator.field_names]}
        for phase in (trt.TensorRTPhase.BUILD, trt.TensorRTPhase.RUNTIME):
            plugin = creator.create_plugin("layer", fields(**attributes), phase)
            core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
            entry[phase.name] = [core.plugin_name, core.plugin_version, core.plugin_namespace]
            build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
            runtime = plugin.get_capability_interface(trt.PluginCapabilityType.RUNTIME)
            entry["capabilities"] = build is not None and runtime is not None
            del core, build, runtime, plugin
        unknown = creator.create_plugin(
            "layer", fields(axis=np.array([1], np.int32)), trt.TensorRTPhase.BUILD)
        entry["unknown refused"] = unknown is None
        seen[f"{space}/{name}"] = entry
conv = registry.get_creator("PerforatedConv", "1", "pagdeploy")
seen["bad refused"] = conv.create_plugin("layer", fields(**bad), trt.TensorRTPhase.BUILD) is None
del conv, creator
registry.deregister_library(library)
seen["gone"] = registry.get_creator("PAGGate", "1", "pagdeploy") is None
print(json.dumps(seen))
"""

ATTRIBUTES = [
    "kernel_shape", "strides", "pads", "dilations", "group", "branch", "mode", "activation",
    "alpha",
]  # fmt: skip


# A library serves its own major version; that a V3 library of version 10 also loads in 11 is a
# property worth keeping, because version-compatible engines move that way.
@pytest.mark.parametrize(("built", "runs"), [(10, 10), (11, 11), (10, 11)])
def test_library_lives_in_a_real_registry(built: int, runs: int, child: Child) -> None:
    library: Path = plugin_library(built)
    seen = json.loads(child(wheels(f"lean{runs}"), PROGRAM, str(library)))
    assert seen.pop("loaded")
    assert not seen.pop("again")
    assert seen.pop("bad refused")
    assert seen.pop("gone")
    for space in ("pagdeploy", ""):
        for name, attributes in (("PAGGate", []), ("PerforatedConv", ATTRIBUTES)):
            entry = seen.pop(f"{space}/{name}")
            assert entry["fields"] == attributes
            assert entry["BUILD"] == entry["RUNTIME"] == [name, "1", space]
            assert entry["capabilities"]
            assert entry["unknown refused"]
    assert not seen
