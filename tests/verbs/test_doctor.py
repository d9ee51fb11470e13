"""Doctor on machines that the tests furnish: real libraries of cc, programs that answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.driver import Driver, Gpu
from pagdeploy.engines.nvidia.linker import Linker, system_linker
from pagdeploy.engines.nvidia.obstacle import Obstacle
from pagdeploy.engines.nvidia.plugin_library import library_name
from pagdeploy.verbs.doctor import (
    Finding,
    Machine,
    doctor,
    libraries,
    nvidia,
    packages,
    plugins,
    system,
)
from tests.cli.test_commands import call
from tests.engines.nvidia.test_libraries import install
from tests.engines.nvidia.toolbox import PLUGIN, compile_library, fatbin

HOPPER = Gpu(0, "NVIDIA H200", "9.0", 141 << 30, "GPU-00010203")
WORKS = Driver((HOPPER,), "13.0", None)
NO_GPU = Driver((), None, Obstacle("There is no NVIDIA driver here.", "Install it."))


def machine(driver: Driver = NO_GPU, site: Path | None = None, **changes: object) -> Machine:
    """A machine with nothing on it but what is given."""
    given = {"environment": {}, "linker": Linker(), **changes}
    return Machine(site=(site,) if site else (), driver=driver, **given)  # type: ignore[arg-type]


def program(folder: Path, name: str, text: str) -> dict[str, str]:
    """A program that prints a text, and the environment that finds it."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\n")
    path.chmod(0o755)
    return {"PATH": str(folder)}


def by_subject(findings: object) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}  # type: ignore[attr-defined]


def test_this_machine_is_looked_at_and_every_fault_has_a_remedy():
    findings = doctor()
    assert {
        "python", "numpy", "onnx ceilings", "onnxruntime ceilings", "portable model", "glibc",
        "cache", "c++", "trtexec", "nvidia driver", "torch",
    } <= {finding.subject for finding in findings}  # fmt: skip
    for finding in findings:
        assert finding.found
        assert finding.remedy or finding.status == "ok" or finding.subject == "nvidia gpu"


def test_a_machine_with_nothing_has_no_problem():
    findings = doctor(machine())
    assert [f for f in findings if f.status == "problem"] == []
    found = by_subject(findings)
    assert found["c++"].status == found["tensorrt libraries"].status == "absent"
    assert found["plugin library"].found == "none found"


def test_ceilings_are_those_that_onnxruntime_states():
    import onnx
    import onnxruntime

    found = by_subject(packages.findings())["onnxruntime ceilings"].found
    opset, ir = (int(word) for word in found.replace(",", "").split() if word.isdigit())
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { y = Identity (x) }")

    def refused(opset: int, ir: int) -> bool:
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        model.ir_version = ir
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:
            return True
        return False

    assert not refused(opset, ir) and refused(opset + 1, ir) and refused(opset, ir + 1)


def test_the_cache_must_be_writable(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new/deep"))
    found = by_subject(system.findings(machine()))["cache"]
    assert found == Finding("cache", "ok", str(tmp_path / "new/deep/pagdeploy"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = by_subject(system.findings(machine()))["cache"]
    assert found.status == "problem" and found.found.endswith("file/pagdeploy cannot be made")
    assert "XDG_CACHE_HOME" in found.remedy


def test_programs_are_looked_for_on_the_path(tmp_path):
    program(tmp_path, "cmake", "cmake version 9.9")
    program(tmp_path, "nvcc", "Copyright\n\nBuild cuda_99")
    environment = program(tmp_path, "trtexec", "")
    (tmp_path / "c++").write_text("#!/none\n")
    (tmp_path / "c++").chmod(0o755)
    found = by_subject(system.findings(machine(environment=environment)))
    assert found["cmake"].found == "cmake version 9.9" and found["nvcc"].found == "Build cuda_99"
    assert found["trtexec"] == Finding("trtexec", "ok", str(tmp_path / "trtexec"))
    assert found["c++"].status == "problem" and found["c++"].found.startswith("does not start")


def test_a_broken_driver_is_a_problem_and_none_is_not():
    (driver, gpu) = nvidia.findings(machine())
    assert (driver.status, driver.found) == ("absent", "There is no NVIDIA driver here.")
    assert gpu.found.endswith("CPU cores will be used")
    broken = Driver((), "13.0", Obstacle("It offers no GPU (X).", "Reboot."), broken=True)
    assert list(nvidia.findings(machine(broken))) == [
        Finding("nvidia driver", "problem", "It offers no GPU (X).", "Reboot.")
    ]


@pytest.mark.parametrize(
    ("persistence", "text", "remedy"),
    [
        ("Enabled", "persistence on", "lock the clock: sudo nvidia-smi -i GPU-00010203 -lgc 1980"),
        ("Disabled", "persistence off", "sudo nvidia-smi -i GPU-00010203 -pm 1"),
    ],
)
def test_gpus_are_shown_with_their_clocks(tmp_path, persistence, text, remedy):
    line = f"GPU-00010203, {persistence}, 345, 1980\nGPU-other, Enabled, 1, 2"
    environment = program(tmp_path, "nvidia-smi", line)
    found = by_subject(nvidia.findings(machine(WORKS, environment=environment)))
    assert found["nvidia driver"].found.endswith("CUDA 13.0")
    assert found["gpu 0"].found == "NVIDIA H200, compute capability 9.0, 141 GiB"
    assert found["gpu 0 clocks"].found == f"SM 345 of 1980 MHz now, {text}"
    assert remedy in found["gpu 0 clocks"].remedy


def test_without_nvidia_smi_clocks_are_not_known():
    found = by_subject(nvidia.findings(machine(WORKS)))
    assert found["gpu clocks"].status == "absent" and found["gpu 0"].status == "ok"


def test_bindings_without_libraries_say_what_to_install(tmp_path):
    install(tmp_path, "tensorrt_cu13_libs", "10.16.1.11", "tensorrt_libs/libnvinfer.so.10")
    runtime = tmp_path / "tensorrt_libs/libnvinfer.so.10"
    module = compile_library(tmp_path / "tensorrt_bindings/tensorrt.so", "", str(runtime))
    info = tmp_path / "tensorrt_cu13_bindings-10.16.1.11.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: tensorrt_cu13_bindings\nVersion: 10.16.1.11\n")
    (info / "RECORD").write_text("tensorrt_bindings/tensorrt.so,,\n")
    found = by_subject(libraries.findings(machine(site=tmp_path)))
    assert found["tensorrt_bindings"].status == "ok"
    assert found["tensorrt libraries"].found == (
        f"10.16.1.11 from tensorrt_cu13_libs, {runtime.parent}: libnvinfer.so.10"
    )
    runtime.unlink()
    found = by_subject(libraries.findings(machine(site=tmp_path)))
    assert found["tensorrt_bindings"] == Finding(
        "tensorrt_bindings",
        "problem",
        "10.16.1.11, but its libraries are not here: libnvinfer.so.10",
        "pip install 'tensorrt_cu13_libs==10.16.1.11'",
    )
    module.write_bytes(b"\x7fELF damaged")
    found = by_subject(libraries.findings(machine(site=tmp_path)))
    assert "or it is damaged" in found["tensorrt_bindings"].found


def test_two_versions_under_one_name_are_a_problem(tmp_path):
    (packaged,) = install(
        tmp_path / "site", "tensorrt_libs", "10.16.1.11", "tensorrt_libs/libnvinfer.so.10"
    )
    real = compile_library(
        tmp_path / "usr/libnvinfer.so.10.13.3", "", "-Wl,-soname,libnvinfer.so.10"
    )
    (tmp_path / "usr/libnvinfer.so.10").symlink_to(real.name)
    where = machine(site=tmp_path / "site", linker=Linker(folders=(tmp_path / "usr",)))
    found = by_subject(libraries.findings(where))["libnvinfer.so.10"]
    assert found.status == "problem"
    assert found.found == (
        f"10.16.1.11 in {packaged.parent}; 10.13.3 in {tmp_path / 'usr'}. Python takes {packaged},"
        f" other programs {tmp_path / 'usr/libnvinfer.so.10'}"
    )


@pytest.mark.parametrize(("cuda", "fits"), [("13.0", True), ("12.8", False), (None, True)])
def test_packages_for_a_newer_cuda_than_the_drivers_are_a_problem(tmp_path, cuda, fits):
    install(tmp_path, "tensorrt_cu13_libs", "10.16.1.11", "tensorrt_libs/libnvinfer.so.10")
    found = by_subject(libraries.findings(machine(Driver((HOPPER,), cuda, None), tmp_path)))
    assert ("nvidia driver" not in found) == fits
    if not fits:
        text = "tensorrt_cu13_libs needs CUDA 13, and the driver serves 12.8"
        assert (found["nvidia driver"].status, found["nvidia driver"].found) == ("problem", text)


@pytest.mark.parametrize(("driver", "status"), [(WORKS, "problem"), (NO_GPU, "absent")])
def test_what_onnxruntimes_providers_need(tmp_path, driver, status):
    needs = [
        str(compile_library(tmp_path / "link" / name))
        for name in ("libcudart.so.13", "libcudnn.so.9", "libnvinfer.so.10")
    ]
    capi = tmp_path / "site/onnxruntime/capi"
    compile_library(capi / "libonnxruntime_providers_cuda.so", "", *needs[:2])
    compile_library(capi / "libonnxruntime_providers_tensorrt.so", "", *needs)
    found = by_subject(libraries.findings(machine(driver, tmp_path / "site")))
    cuda = found["onnxruntime's cuda provider"]
    assert (cuda.status, cuda.found) == (status, "needs libcudart.so.13, libcudnn.so.9, not found")
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in cuda.remedy
    assert found["onnxruntime's tensorrt provider"].status == "absent"
    everything = Linker(environment=(tmp_path / "link",))
    found = by_subject(libraries.findings(machine(driver, tmp_path / "site", linker=everything)))
    assert found["onnxruntime's cuda provider"].status == "ok"
    assert found["onnxruntime's tensorrt provider"].status == "ok"


def plugin_findings(folder: Path, driver: Driver = WORKS, **changes: object) -> dict[str, Finding]:
    environment = {"PAGDEPLOY_PLUGINS": str(folder)}
    linker = changes.pop("linker", system_linker({}))
    where = machine(driver, environment=environment, linker=linker, **changes)
    return by_subject(plugins.findings(where))


def test_the_plugin_library_is_checked_against_gpu_and_tensorrt(tmp_path):
    good = compile_library(tmp_path / "a" / library_name(10), PLUGIN + fatbin((2, 90, 0)))
    subject = "plugin library for TensorRT 10"
    assert plugin_findings(tmp_path / "a")[subject] == Finding(subject, "ok", f"{good}: sm_90")
    compile_library(tmp_path / "b" / library_name(10), PLUGIN + fatbin((2, 80, 0)))
    found = plugin_findings(tmp_path / "b")[subject]
    assert found.status == "problem" and "has no code for NVIDIA H200" in found.found
    assert plugin_findings(tmp_path / "b", NO_GPU)[subject].status == "ok"
    static = PLUGIN + "extern int getPluginRegistry; int* r(void) { return &getPluginRegistry; }"
    compile_library(tmp_path / "c" / library_name(10), static + fatbin((2, 90, 0)))
    found = plugin_findings(tmp_path / "c")[subject]
    assert found.status == "problem" and "it calls getPluginRegistry" in found.found
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / library_name(10)).write_text("text")
    assert "is not a shared library" in plugin_findings(tmp_path / "d")[subject].found


def test_a_tensorrt_without_our_library_is_told_so(tmp_path):
    install(tmp_path / "site", "tensorrt_libs", "11.4.0", "tensorrt_libs/libnvinfer.so.11")
    compile_library(tmp_path / library_name(10), PLUGIN)
    found = plugin_findings(tmp_path, site=tmp_path / "site")
    assert list(found) == ["plugin library"]
    assert found["plugin library"].found == "libpagdeploy_plugins_trt11.so is not found"
    assert "set PAGDEPLOY_PLUGINS to its folder" in found["plugin library"].remedy


def test_places_that_are_not_there_are_a_problem(tmp_path):
    found = plugin_findings(tmp_path / "none")["PAGDEPLOY_PLUGINS"]
    assert found.status == "problem" and found.found.endswith("none, which is not there")


def test_a_problem_makes_the_command_fail(tmp_path, monkeypatch):
    monkeypatch.setenv("PAGDEPLOY_PLUGINS", str(tmp_path / "none"))
    code, out, _ = call("doctor")
    assert code == 3 and "which is not there" in " ".join(out.split())
    code, out, _ = call("doctor", "--json")
    assert code == 3
    assert {"subject", "status", "found", "remedy"} == set(json.loads(out)[0])
