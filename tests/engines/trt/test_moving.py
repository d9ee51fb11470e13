"""A bundle on another machine: what loads, what is refused, and whose code runs."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from pagdeploy.engines.base import BuildOptions
from pagdeploy.engines.nvidia import driver, registry
from pagdeploy.engines.nvidia.plugin_library import VARIABLE, library_name
from pagdeploy.errors import BuildFailed, EnvironmentProblem, IncompatibleArtifact, UsageError
from pagdeploy.verbs.build import build
from pagdeploy.verbs.run import run
from pagdeploy.verbs.verify import verify
from tests.engines.trt.conftest import gpu


@pytest.fixture
def made(install, model_file, tmp_path):
    """Build for TensorRT 10, and hand the bundle over."""

    def make(**options):
        install(10)
        path = tmp_path / "m.pagbundle"
        build(
            model_file,
            path,
            engine="tensorrt",
            lowering="plugin",
            shapes={"image": [1, 3, 8, 8]},
            options=BuildOptions(**options),
        )
        return path

    return make


def test_where_it_was_built_it_runs(made, libraries):
    outputs = run(made(), [])
    assert {name: array.shape for name, array in outputs.items()} == {"y": (1, 4, 8, 8)}
    assert list(registry._loaded) == [libraries / library_name(10)]


@pytest.mark.parametrize("major", [8, 11])
def test_another_version_is_refused_before_tensorrt_sees_it(major, made, install, monkeypatch):
    path = made()
    monkeypatch.setattr(install(major), "Runtime", None)
    with pytest.raises(IncompatibleArtifact, match=r"built with TensorRT 10.16.1.11, and \d") as no:
        run(path, [])
    assert f"pagdeploy build --from-bundle {path}" in no.value.remedy


def test_another_gpu_is_refused_before_tensorrt_sees_it(made, install, monkeypatch):
    path = made()
    monkeypatch.setattr(install(10), "Runtime", None)
    monkeypatch.setattr(driver, "driver", lambda: gpu("NVIDIA Other", "12.0"))
    with pytest.raises(IncompatibleArtifact, match=r"capability 8.9, and NVIDIA Other has 12.0"):
        run(path, [])


def test_a_wider_plan_runs_on_another_gpu(made, monkeypatch):
    path = made(hardware_compatibility="ampere_plus")
    monkeypatch.setattr(driver, "driver", lambda: gpu("NVIDIA Other", "12.0"))
    assert set(run(path, [])) == {"y"}


def test_a_compatible_plan_moves_to_11_and_takes_the_library_of_11(made, install, libraries):
    path = made(version_compatible=True)
    here = run(path, [], allow_host_code=True)
    install(11)
    with pytest.raises(UsageError, match="holds code that would run on this machine"):
        run(path, [])
    there = run(path, [], allow_host_code=True)
    np.testing.assert_array_equal(there["y"], here["y"])
    assert list(registry._loaded) == [libraries / library_name(11)]
    assert verify(path, allow_host_code=True).passed


def test_a_compatible_plan_does_not_move_back(made, install):
    path = made(version_compatible=True)
    install(8)
    with pytest.raises(IncompatibleArtifact, match=r"and 8\.6\.1 is installed"):
        run(path, [], allow_host_code=True)


def test_without_an_installed_library_the_bundles_own_needs_leave(made, install, monkeypatch):
    path = made()
    install(10)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UsageError, match=r"libpagdeploy_plugins_trt10\.so, whose code would run"):
        run(path, [])
    assert registry._loaded == {}
    assert set(run(path, [], allow_host_code=True)) == {"y"}
    assert list(registry._loaded) == [path / "plugins" / library_name(10)]


def test_a_compatible_plan_brings_its_library_inside(made, install, monkeypatch):
    path = made(version_compatible=True)
    install(10)
    monkeypatch.delenv(VARIABLE)
    assert set(run(path, [], allow_host_code=True)) == {"y"}
    assert registry._loaded == {}


def test_a_dense_plan_needs_no_library(install, model_file, tmp_path, monkeypatch):
    install(10)
    monkeypatch.delenv(VARIABLE)
    path = tmp_path / "m.pagbundle"
    build(model_file, path, engine="tensorrt", lowering="dense", shapes={"image": [1, 3, 8, 8]})
    assert set(run(path, [])) == {"y"}


def test_what_tensorrt_refuses_is_told(made, install, monkeypatch):
    path = made()
    trt = install(10)

    def none(self, content):
        severity = trt.ILogger.Severity.ERROR
        self._logger.log(severity, "IRuntime::x: Error Code 1: Bad magic. In f.cpp")

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", none)
    with pytest.raises(IncompatibleArtifact, match=r"refuses the plan \(Bad magic. In f.cpp\)"):
        run(path, [])


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            RuntimeError("CUDA Error: 700. To figure out\nmore"),
            r"\(CUDA Error: 700. To figure out\)",
        ),
        (MemoryError(), r"\(it gives no reason\)"),
    ],
)
def test_an_engine_that_fails_is_told(problem, text, made, install, monkeypatch):
    def fail(self, stream_handle):
        raise problem

    path = made()
    monkeypatch.setattr(install(10).IExecutionContext, "execute_async_v3", fail)
    with pytest.raises(BuildFailed, match=f"The engine fails on this input {text}"):
        run(path, [])


def test_without_polygraphy_the_package_is_named(made, monkeypatch):
    path = made()
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(EnvironmentProblem, match="polygraphy") as no:
        run(path, [])
    assert "pip install" in no.value.remedy


def test_after_a_fault_of_the_gpu_nothing_but_the_fault_is_told(
    made, install, memory, monkeypatch, capsys
):
    """Every further call fails, too, also those that free."""
    path = made()
    monkeypatch.setattr(install(10).IExecutionContext, "execute_async_v3", lambda *_: False)

    def broken(*_):
        raise RuntimeError("CUDA Error: 700")

    monkeypatch.setattr(memory, "free", broken)
    with pytest.raises(BuildFailed, match="The engine fails on this input"):
        run(path, [])
    gc.collect()
    assert capsys.readouterr() == ("", "")
