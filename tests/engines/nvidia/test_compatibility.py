"""Whether a plan can be loaded: every rule, both ways, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagdeploy.engines.nvidia.compatibility import why_not_loadable
from pagdeploy.engines.nvidia.driver import Gpu
from pagdeploy.engines.nvidia.plan import parse_plan_header
from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact
from pagdeploy.manifest import PlanInfo
from tests.engines.nvidia.toolbox import old_plan_bytes, plan_bytes

HOPPER = Gpu(0, "NVIDIA H200", "9.0", 2**37, "GPU-0")
HEADER = parse_plan_header(plan_bytes(version=(10, 15, 1, 29)), "x")
BUNDLE = Path("my bundles/m.pagbundle")


def plan_info(**changes: object) -> PlanInfo:
    return PlanInfo.model_validate({"profiles": [], "compute_capabilities": ["9.0"], **changes})


def why_not(header=HEADER, *, runtime="tensorrt", installed="10.15.1.29", gpu=HOPPER, **rest):
    rest = {"plan": plan_info(), "bundle": BUNDLE, **rest}
    return why_not_loadable(header, runtime=runtime, installed=installed, gpu=gpu, **rest)


def test_what_was_built_here_is_loaded():
    assert why_not() is None
    assert why_not(plan=None, bundle=None) is None


@pytest.mark.parametrize(
    ("installed", "compatible", "loads"),
    [
        ("10.15.1.29", False, True),
        ("10.15.1", False, True),  # bindings that leave the build number out
        ("10.15.1.post1", False, True),
        ("10.15.1.30", False, False),
        ("10.16.1.11", False, False),
        ("11.4.0.106", False, False),
        ("10.16.1.11", True, True),
        ("11.4.0.106", True, True),
        ("10.15.1.28", True, False),  # forward only
        ("8.6.1.6", True, False),
    ],
)
def test_versions(installed, compatible, loads):
    found = why_not(installed=installed, plan=plan_info(version_compatible=compatible))
    if loads:
        assert found is None
    else:
        assert found.reason == (
            f"The plan was built with TensorRT 10.15.1.29, and {installed} is installed."
        )
        assert found.remedy == (
            "Build it again here: pagdeploy build --from-bundle 'my bundles/m.pagbundle'"
            " -o NEW.pagbundle"
        )
        assert isinstance(found.error(IncompatibleArtifact), IncompatibleArtifact)


def test_plans_without_a_version_are_for_8_5():
    old = parse_plan_header(old_plan_bytes(), "x")
    assert why_not(old, installed="8.5.3.1") is None
    assert "TensorRT 8.5 or older, and 8.6.1 is" in why_not(old, installed="8.6.1").reason


@pytest.mark.parametrize(
    ("wanted", "compatibility", "capability", "loads"),
    [
        (["9.0"], "none", "9.0", True),
        (["8.6", "8.9"], "none", "8.9", True),
        ([], "none", "12.0", True),  # nothing is known
        (["8.9"], "none", "9.0", False),
        (["8.6"], "none", "8.9", False),
        (["8.0"], "ampere_plus", "12.0", True),
        (["8.0"], "ampere_plus", "7.5", False),
        (["8.9"], "same_compute_capability", "8.9", True),
        (["8.9"], "same_compute_capability", "9.0", False),
    ],
)
def test_gpus(wanted, compatibility, capability, loads):
    plan = plan_info(compute_capabilities=wanted, hardware_compatibility=compatibility)
    gpu = Gpu(0, "NVIDIA X", capability, 1, "GPU-0")
    found = why_not(gpu=gpu, plan=plan)
    if loads:
        assert found is None
    else:
        assert found.reason == (
            f"The plan was built for GPUs of compute capability {wanted[0]}, and NVIDIA X has"
            f" {capability}."
        )
        assert "--from-bundle" in found.remedy


def test_the_header_of_a_tensorrt_rtx_plan_names_its_gpus():
    header = parse_plan_header(plan_bytes(b"vtrt", (1, 7, 1, 116), gpus=0b1100), "x")
    rtx = {"runtime": "tensorrt-rtx", "installed": "1.7.1.116", "plan": None}
    assert why_not(header, gpu=Gpu(0, "G", "8.9", 1, ""), **rtx) is None
    assert "of compute capability 8.6 or 8.9, and NVIDIA" in why_not(header, **rtx).reason


def test_flavours_do_not_mix():
    found = why_not(runtime="tensorrt-rtx", installed="1.7.1.116")
    assert (
        found.reason
        == "The plan was built with TensorRT 10.15.1.29, which tensorrt-rtx cannot load."
    )
    assert "--from-bundle 'my bundles/m.pagbundle' --engine tensorrt-rtx -o" in found.remedy
    assert "MODEL.onnx --engine tensorrt-rtx" in why_not(runtime="tensorrt-rtx", bundle=None).remedy


def test_what_this_machine_lacks_is_told_apart_from_what_does_not_fit():
    none = why_not(installed=None)
    assert (
        none.reason
        == "The plan was built with TensorRT 10.15.1.29, and no tensorrt is installed here."
    )
    assert none.remedy == "Install it with: pip install 'pagdeploy[tensorrt]'"
    assert isinstance(none.error(IncompatibleArtifact), EnvironmentProblem)
    gpu = why_not(gpu=None)
    assert str(gpu) == (
        "The plan needs an NVIDIA GPU, and there is none here. Run 'pagdeploy doctor' to see why."
    )
    assert isinstance(gpu.error(IncompatibleArtifact), EnvironmentProblem)
