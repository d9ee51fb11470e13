"""TensorRT in any version, a GPU, and a plugin library, none of them real."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pagdeploy.bundle import seal
from pagdeploy.engines import trt as engine
from pagdeploy.engines.nvidia import driver, registry
from pagdeploy.engines.nvidia.driver import Driver, Gpu
from pagdeploy.engines.nvidia.plugin_library import MAJORS, VARIABLE, library_name
from pagdeploy.manifest import Manifest
from tests.engines.nvidia.toolbox import compile_library

STAND_IN = Path(__file__).parents[1] / "stand_in"
VERSIONS = {8: "8.6.1", 10: "10.16.1.11", 11: "11.4.0.106"}
OURS = "PAGGate:1:pagdeploy PerforatedConv:1:pagdeploy"
_POLYGRAPHY = ("backend.trt.runner", "backend.trt.util", "datatype.tensorrt")
_imported: dict[int, dict[str, ModuleType]] = {}  # one each: their types are slow to make

Install = Callable[..., ModuleType]


class HostMemory:
    """Polygraphy's CUDA, with host memory in place of a GPU's; it knows what was not freed."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}

    def malloc(self, nbytes: int) -> int:
        block = ctypes.create_string_buffer(max(1, nbytes))
        self.held[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, ptr: int) -> None:
        if ptr:  # as cudaFree, which takes a null pointer
            del self.held[ptr]

    def memcpy(
        self, dst: int, src: int, nbytes: int, kind: object, stream_ptr: int | None = None
    ) -> None:
        ctypes.memmove(dst, src, nbytes)

    def create_stream(self) -> int:
        return self.malloc(1)

    def destroy_stream(self, ptr: int) -> None:
        self.free(ptr)

    def stream_synchronize(self, ptr: int) -> None:
        assert ptr in self.held


def gpu(name: str = "NVIDIA Test", capability: str = "8.9") -> Driver:
    """The answer of a driver with one GPU."""
    return Driver((Gpu(0, name, capability, 2**34, "GPU-0"),), "13.0", None)


def plugin(target: Path, major: int, creators: str = OURS) -> Path:
    """A shared library that looks like ours from outside, and has those creators."""
    entry = "getPluginCreators" if major < 10 else "getCreators"
    source = f"""void* {entry}(int* count) {{ *count = 0; return 0; }}
    void setLoggerFinder(void* finder) {{ (void)finder; }}
    const char* stand_in_creators = "{creators}";"""
    return compile_library(target, source)


def plan_of(bundle: Path) -> dict[str, Any]:
    """What the stand-in was asked to build, as its plan tells."""
    from tensorrt._runtime import read_plan

    facts, _ = read_plan((bundle / "engine.plan").read_bytes())
    return facts


def change_plan(bundle: Path, fault: Callable[[Any], None]) -> None:
    """Put another model into a bundle's plan, and seal it as if it had been built so."""
    import onnx
    from tensorrt._builder import write_plan
    from tensorrt._runtime import read_plan

    file = bundle / "engine.plan"
    facts, content = read_plan(file.read_bytes())
    proto = onnx.ModelProto.FromString(content)
    fault(proto)
    file.write_bytes(write_plan(facts, proto.SerializeToString()))
    seal(bundle, Manifest.model_validate_json((bundle / "manifest.json").read_text()))


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our plugin library for every major version."""
    folder = tmp_path_factory.mktemp("libraries")
    for major in MAJORS:
        plugin(folder / library_name(major), major)
    return folder


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> HostMemory:
    """What the sessions of this test hold."""
    pytest.importorskip("polygraphy")
    monkeypatch.setitem(sys.modules, "torch", None)  # polygraphy would import it, for seconds
    held = HostMemory()
    monkeypatch.setattr(importlib.import_module("polygraphy.cuda.cuda"), "G_CUDA", held)
    return held


@pytest.fixture
def install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, libraries: Path, memory: HostMemory
) -> Iterator[Install]:
    """Put a version of TensorRT on this machine, by its major number; again, to move a plan."""

    def put(major: int = 10) -> ModuleType:
        _forget()
        monkeypatch.setenv("STAND_IN_TENSORRT", VERSIONS[major])
        monkeypatch.setattr(registry, "_loaded", {})
        for name in _POLYGRAPHY:
            lazy = importlib.import_module(f"polygraphy.{name}").trt
            monkeypatch.setitem(vars(lazy), "module", None)
        sys.modules.update(_imported.get(major, {}))
        trt = importlib.import_module("tensorrt")
        _imported[major] = {name: sys.modules[name] for name in _names()}
        trt.get_plugin_registry()._creators.clear()
        return trt

    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, str(libraries))
    monkeypatch.setattr(driver, "driver", gpu)
    monkeypatch.setattr(engine, "kernel_driver", lambda: "580.65")
    yield put
    _forget()


def _forget() -> None:
    engine._module.cache_clear()
    for name in _names():
        del sys.modules[name]


def _names() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "tensorrt"]
