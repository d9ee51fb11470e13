"""Inspect: plans, plugin libraries and bundles with a plan, told apart by their first bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pagdeploy.bundle import ENGINE_PLAN, seal
from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.manifest import Manifest, PlanInfo, Profile
from pagdeploy.verbs import inspect as verb
from pagdeploy.verbs.inspect import BundleSummary, LibrarySummary, PlanSummary, inspect, native
from tests.cli.test_commands import call, refused
from tests.engines.nvidia.toolbox import PLUGIN, compile_library, fatbin, plan_bytes

INFO = PlanInfo(
    profiles=[{"image": Profile(min=[1, 3, 8, 8], opt=[1, 3, 20, 24], max=[4, 3, 64, 64])}],
    plugins=["plugins/libpagdeploy_plugins_trt10.so"],
    version_compatible=True,
    hardware_compatibility="ampere_plus",
    compute_capabilities=["8.9"],
    timing_cache="timing.cache",
)


@pytest.fixture
def plan_bundle(bundle: Path) -> Path:
    """The bundle as TensorRT would have built it, with a plan of nothing but a header."""
    (bundle / "engine.onnx").unlink()
    (bundle / ENGINE_PLAN).write_bytes(plan_bytes(version=(10, 15, 1, 29)))
    (bundle / "timing.cache").write_bytes(b"measurements")
    compile_library(bundle / "plugins/libpagdeploy_plugins_trt10.so", PLUGIN)
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_text())
    changes = {"flavour": "tensorrt", "version": "10.15.1.29", "file": ENGINE_PLAN, "plan": INFO}
    engine = manifest.engine.model_copy(update=changes)
    host = manifest.host.model_copy(update={"gpu": "NVIDIA L4", "driver": "580.65", "cuda": "13.0"})
    seal(bundle, manifest.model_copy(update={"engine": engine, "host": host}))
    return bundle


@pytest.mark.parametrize("name", ["m.engine", "m.onnx", "m.so", "m"])
def test_a_plan_is_a_plan_whatever_it_is_called(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(plan_bytes(version=(8, 6, 1, 6)))
    summary = inspect(path)
    assert isinstance(summary, PlanSummary) and summary.header.version == "8.6.1.6"


@pytest.mark.parametrize("name", ["m.engine", "m.onnx", "libm.so.1"])
def test_a_library_is_a_library_whatever_it_is_called(tmp_path, name):
    path = compile_library(tmp_path / "x.so", PLUGIN + fatbin((2, 89, 0)), "-Wl,-soname,libx.so")
    summary = inspect(path.rename(tmp_path / name))
    assert isinstance(summary, LibrarySummary) and summary.library.gpu_code.sass == ("sm_89",)
    assert summary.library.tensorrt_major is None


def test_a_plan_says_why_it_cannot_be_loaded_here(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "gpus", list)
    monkeypatch.setattr(native.sys, "path", [])
    path = tmp_path / "m.engine"
    path.write_bytes(plan_bytes())
    why = inspect(path).why_not_here
    assert "no tensorrt is installed here. Install it with: pip install" in why
    site = tmp_path / "site"
    compile_library(site / "tensorrt_libs/libnvinfer.so.10", "char tensorrt_version_10_15_1_29;")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(site / "tensorrt_libs"))
    assert inspect(path).why_not_here.startswith("The plan needs an NVIDIA GPU, and there is none")


def test_a_bundle_with_a_plan_shows_all_that_must_fit(plan_bundle, monkeypatch):
    summary = inspect(plan_bundle)
    assert isinstance(summary, BundleSummary) and summary.manifest.engine.plan == INFO
    assert summary.plan.header.version == "10.15.1.29"
    code, out, err = call("inspect", plan_bundle)
    assert code == 0, err
    for line in (
        "NVIDIA L4, driver 580.65, CUDA 13.0",
        "plan built with TensorRT 10.15.1.29, 64 bytes",
        "built for the GPUs 8.9",
        "version-compatible: yes",
        "hardware compatibility: ampere_plus",
        "plugin libraries: plugins/libpagdeploy_plugins_trt10.so",
        "timing cache: timing.cache",
        "loads here: ",
    ):
        assert line in out, out
    row = next(line for line in out.splitlines() if "4x3x64x64" in line)
    assert row.split() == ["0", "image", "1x3x8x8", "1x3x20x24", "4x3x64x64"]
    answer = json.loads(call("inspect", plan_bundle, "--json")[1])
    assert answer["manifest"]["engine"]["plan"] == json.loads(INFO.model_dump_json())
    assert answer["plan"]["header"]["flavour"] == "tensorrt"


def test_a_bundle_whose_plan_is_none_is_refused(plan_bundle):
    manifest = Manifest.model_validate_json((plan_bundle / "manifest.json").read_text())
    (plan_bundle / ENGINE_PLAN).write_bytes(plan_bytes()[:-1])
    seal(plan_bundle, manifest)
    refused(4, f"{plan_bundle / ENGINE_PLAN} is truncated: its header", "inspect", plan_bundle)


def test_a_library_on_the_command_line(tmp_path):
    path = compile_library(
        tmp_path / "libpagdeploy_plugins_trt10.so", PLUGIN + fatbin((2, 90, 1 << 20), (1, 120, 0))
    )
    code, out, err = call("inspect", path)
    assert code == 0, err
    assert "pagdeploy's plugins for TensorRT 10" in out and "loads here: yes" in out
    assert "sm_90a" in out and "compute_120" in out and "getCreators, setLoggerFinder" in out
    answer = json.loads(call("inspect", path, "--json")[1])
    assert answer["library"]["gpu_code"] == {"sass": ["sm_90a"], "ptx": ["compute_120"]}
    assert answer["why_not_here"] == []


def test_a_library_that_cannot_be_loaded_says_why(tmp_path):
    source = "extern void* getPluginRegistry(void); void* r(void) { return getPluginRegistry(); }"
    code, out, _ = call("inspect", compile_library(tmp_path / "libtheirs.so", source))
    assert code == 0 and "loads here: no" in out
    assert "calls getPluginRegistry" in out and "none of TensorRT's" in out
    assert "does not export getCreators and setLoggerFinder" in out


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.engine", b"text", "is not a TensorRT plan: it begins with b'text'"),
        ("m.plan", b"", "is not a TensorRT plan: it begins with b''"),
        ("m.engine", plan_bytes()[:50], "is truncated: its header promises 64 bytes"),
        ("m.so", b"text", "is not a shared library. Give a .so file of Linux."),
        ("m.so", b"\x7fELF\x02\x01\x01" + bytes(40), "is not a shared library, or it is damaged."),
        ("m.onnx", b"text", "is not an ONNX model"),
        ("m", b"\0" * 40, "is not an ONNX model"),
    ],
)
def test_each_kind_of_damage_has_its_sentence(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content)
    refused(4, f"{path} {text}", "inspect", path)
    with pytest.raises(IncompatibleArtifact):
        verb.inspect(path)


def test_nothing_native_is_loaded_to_inspect(plan_bundle, tmp_path):
    library = plan_bundle / "plugins/libpagdeploy_plugins_trt10.so"
    code = (
        "import sys; from pathlib import Path; from pagdeploy.verbs.inspect import inspect\n"
        "for path in sys.argv[1:]: inspect(Path(path))\n"
        "maps = open('/proc/self/maps').read()\n"
        "names = ('onnxruntime', 'nvinfer', 'libcuda', 'pagdeploy_plugins')\n"
        "print([name for name in names if name in maps])"
    )
    command = [sys.executable, "-c", code, str(plan_bundle), str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
