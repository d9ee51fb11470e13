"""The stand-in is as strict as what it stands for, and offers nothing of its own."""

from __future__ import annotations

import enum
import inspect
import json
from pathlib import Path

import pytest

from tests.plugins.conftest import child as child  # a fixture
from tests.plugins.conftest import wheels

_DUMP = """
import json, sys
import tensorrt_rtx_bindings as trt

told = {}
for name in json.loads(sys.argv[1]):
    kind = getattr(trt, name, None)
    members = [] if kind is None else [m for m in dir(kind) if m[0] != "_"]
    told[name] = {m: str(getattr(kind, m).__doc__) for m in members}
print(json.dumps(told))
"""
# What TensorRT-RTX has no use for, or tells in another class.
_NOT_OF_RTX = {"IOutputAllocator", "IHostMemory", "IDebugListener", "IProgressMonitor"}


@pytest.mark.trt
def test_every_member_is_one_of_nvidias(install, child):
    """TensorRT-RTX's bindings are those of TensorRT 11; no other full ones are on every machine."""
    trt = install(11)
    classes = {
        name: kind
        for name, kind in vars(trt).items()
        if inspect.isclass(kind) and name not in _NOT_OF_RTX
    }
    told = json.loads(child(wheels("rtx"), _DUMP, json.dumps(list(classes))).splitlines()[-1])
    for name, kind in classes.items():
        hints = inspect.get_annotations(kind) if not issubclass(kind, enum.Enum) else {}
        members = {m for m in vars(kind) if m[0] != "_"} | set(hints)
        assert members <= set(told[name]), (name, members - set(told[name]))
        for member in members:
            function = inspect.unwrap(vars(kind).get(member))
            if inspect.isfunction(function):
                (_, *parameters) = inspect.signature(function).parameters
                missing = [p for p in parameters if f"{p}: " not in told[name][member]]
                assert not missing, f"{name}.{member} has no {missing}: {told[name][member]}"


def test_what_is_wrong_is_refused(install):
    trt = install(10)
    builder = trt.Builder(type("Log", (trt.ILogger,), {"log": print})())
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        config.max_workspace_size = 2**30  # gone since 10
    with pytest.raises(TypeError):
        config.builder_optimization_level = "5"
    with pytest.raises(TypeError):
        config.plugins_to_serialize = [Path("library.so")]
    with pytest.raises(TypeError):
        config.set_flag(0)
    with pytest.raises(TypeError):
        trt.get_plugin_registry().load_library(Path("library.so"))
    with pytest.raises(TypeError):
        builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    with pytest.raises(TypeError):
        builder.create_optimization_profile().set_shape("x", (1.0,), (1,), (1,))
    with pytest.raises(TypeError):
        trt.Builder(object())


def test_versions_differ_where_they_do(install):
    had = {}
    for major in (8, 10, 11):
        trt = install(major)
        registry = trt.get_plugin_registry()
        had[major] = (
            hasattr(trt.BuilderFlag, "FP16"),
            hasattr(trt.BuilderFlag, "BF16"),
            hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
            hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"),
            hasattr(trt.LayerType, "PLUGIN_V3"),
            hasattr(registry, "get_creator"),
            hasattr(registry, "get_plugin_creator"),
            hasattr(trt, "IProgressMonitor"),
            hasattr(trt.ILayer, "set_output_type"),
        )
    assert had == {
        8: (True, False, False, True, False, False, True, False, True),
        10: (True, True, True, True, True, True, True, True, True),
        11: (False, False, True, False, True, True, False, True, False),
    }
