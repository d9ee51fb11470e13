"""TensorRT-RTX for real: plans for consumer GPUs, built on any machine, from the command line.

Each command runs in a child process that finds the wheels of tests/plugins/install_wheels.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.engines.nvidia.driver import gpus
from pagdeploy.engines.nvidia.plan import read_plan_header
from tests.plugins.conftest import wheels

pytestmark = pytest.mark.trt

Command = Callable[..., subprocess.CompletedProcess[str]]
SHAPES = ("--min-shapes", "image:1x3x8x8", "--max-shapes", "image:2x3x64x64")


@pytest.fixture
def command() -> Command:
    """Run pagdeploy with TensorRT-RTX at hand."""
    folder = wheels("rtx")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pagdeploy", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )

    return run


def built(command: Command, model: Path, output: Path, *arguments: object) -> Path:
    """Build a bundle, which must succeed."""
    done = command("build", model, "-o", output, "--engine", "tensorrt-rtx", "-q", *arguments)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_plan_is_built_without_a_gpu(
    precision: str, command: Command, model_file: Path, tmp_path: Path
) -> None:
    path = built(command, model_file, tmp_path / "m.pagbundle", "--precision", precision, *SHAPES)
    manifest = open_bundle(path).manifest
    assert (manifest.engine.flavour, manifest.engine.lowering) == ("tensorrt-rtx", "dense")
    assert manifest.engine.precision == precision
    header = read_plan_header(path / "engine.plan")
    assert (header.flavour, header.version) == ("tensorrt-rtx", manifest.engine.version)
    assert header.size == (path / "engine.plan").stat().st_size
    plan = manifest.engine.plan
    assert plan is not None and plan.timing_cache is None and plan.plugins == []
    oldest = "8.0" if precision == "bf16" else "7.5"
    assert plan.compute_capabilities[0] == oldest and "8.9" in plan.compute_capabilities
    (profile,) = plan.profiles
    assert profile["image"].min == [1, 3, 8, 8] and profile["image"].max == [2, 3, 64, 64]
    assert {op.lowering for op in manifest.ops} == {"dense"}


def test_int8_plan_carries_its_calibration(
    command: Command, model_file: Path, tmp_path: Path
) -> None:
    import numpy as np

    data = np.random.default_rng(0).random((3, 3, 20, 24), np.float32)
    np.savez(tmp_path / "c.npz", image=data)
    path = built(
        command, model_file, tmp_path / "m.pagbundle",
        "--precision", "int8", "--calibration-data", tmp_path / "c.npz", *SHAPES,
    )  # fmt: skip
    assert open_bundle(path).manifest.engine.calibration == "calibration.json"
    again = command("build", "--from-bundle", path, "-o", tmp_path / "again.pagbundle", "-q")
    assert again.returncode == 0, again.stderr
    old, new = open_bundle(path).manifest, open_bundle(tmp_path / "again.pagbundle").manifest
    assert new.engine.plan == old.engine.plan
    assert new.files["calibration.json"] == old.files["calibration.json"]


def test_chosen_gpus_and_several_profiles_are_kept(
    command: Command, model_file: Path, tmp_path: Path
) -> None:
    path = built(
        command, model_file, tmp_path / "m.pagbundle",
        "--compute-capability", "8.6", "--compute-capability", "12.0", "--shapes", "image:1x3x8x8",
        "--minShapes=image:1x3x8x8", "--profile=1", "--minShapes=image:1x3x32x32",
        "--maxShapes=image:1x3x16x16", "--maxShapes=image:4x3x32x32",
    )  # fmt: skip
    plan = open_bundle(path).manifest.engine.plan
    assert plan is not None and plan.compute_capabilities == ["8.6", "12.0"]
    assert [p["image"].max for p in plan.profiles] == [[1, 3, 16, 16], [4, 3, 32, 32]]
    assert read_plan_header(path / "engine.plan").compute_capabilities == ("8.6", "12.0")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--compute-capability", "9.0"], 2, "builds nothing in fp32 for compute capability 9.0"),
        (["--compute-capability", "7.5", "--precision", "bf16"], 2, "nothing in bf16 for compute"),
        (["--lowering", "plugin"], 2, "The engine tensorrt-rtx has no lowering 'plugin'"),
        (["--lowering", "gather"], 2, "The engine tensorrt-rtx has no lowering 'gather'"),
        (["--version-compatible"], 2, "TensorRT-RTX has no use for --version-compatible"),
        (["--timing-cache", "x"], 2, "TensorRT-RTX has no use for --timing-cache"),
        (["--plugins", "x.so"], 2, "TensorRT-RTX has no use for --plugins"),
        (["--precision", "int8"], 2, "needs the ranges of the values that it quantizes"),
        (["--precision", "fp8"], 2, "does not compute in fp8. Choose one of: fp32, tf32, fp16,"),
        (["--mem-pool-size", "workspace"], 2, "The memory pool 'workspace' cannot be read"),
        (["--mem-pool-size", "heap:64"], 2, "There is no memory pool 'heap'"),
        (["--hardware-compatibility-level", "x"], 2, "no hardware compatibility level 'x'"),
        (["--min-shapes", "y:1x3x8x8"], 2, "given for 'y', which is not an input"),
        (["--min-shapes", "image:1x4x8x8"], 2, "The min shape 1x4x8x8 does not fit"),
        (["--min-shapes", "image:1x3x8"], 2, "The min shape 1x3x8 does not fit"),
        (["--min-shapes", "image:9x3x8x8"], 2, "The profile of the input 'image' is not in order"),
    ],
)
def test_wrong_requests_get_a_sentence_and_leave_nothing(
    arguments: list[str], code: int, text: str, command: Command, model_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.pagbundle"
    done = command(
        "build", model_file, "-o", output, "--engine", "tensorrt-rtx",
        "--shapes", "image:1x3x16x16", *arguments,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert text in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU, and the plan runs")
def test_running_without_a_gpu_is_refused_before_the_runtime(
    command: Command, model_file: Path, tmp_path: Path
) -> None:
    """TensorRT's Runtime ends the process if there is no GPU; it must not be reached."""
    path = built(command, model_file, tmp_path / "m.pagbundle", *SHAPES)
    for verb in ("run", "verify"):
        done = command(verb, path, "--json")
        fault = json.loads(done.stdout)
        assert (done.returncode, fault["exit_code"]) == (3, 3), done.stderr
        assert fault["error"] == "The plan needs an NVIDIA GPU, and there is none here."


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graph_of_a_plan_is_verified_where_no_gpu_is(
    precision: str, command: Command, model_file: Path, tmp_path: Path
) -> None:
    path = built(command, model_file, tmp_path / "m.pagbundle", "--precision", precision, *SHAPES)
    done = command("verify", path, "--graph-only")
    assert done.returncode == 0, done.stderr
    assert f"verified: the graph of {path} (dense, {precision})" in " ".join(done.stdout.split())


def test_progress_shows_the_builders_steps(
    command: Command, model_file: Path, tmp_path: Path
) -> None:
    done = command(
        "build", model_file, "-o", tmp_path / "m.pagbundle", "--engine", "tensorrt-rtx", *SHAPES
    )
    assert "building engine, 6 of 6" in done.stderr
    assert "note: The engine was not run here." in done.stderr or gpus()


def test_trained_network(command: Command, tmp_path: Path) -> None:
    """The trained rooms network: parse, build, header, manifest, and its graph verified."""
    rooms = Path(__file__).parents[2] / "examples" / "rooms"
    model = tmp_path / "m.onnx"
    done = command(
        "export", f"{rooms / 'model.py'}:gated", "-o", model, "-q",
        "--weights", rooms / "weights" / "gated70.safetensors",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = built(
        command, model, tmp_path / "m.pagbundle", "--precision", "fp16",
        "--min-shapes", "image:1x3x48x64", "--opt-shapes", "image:1x3x96x128",
        "--max-shapes", "image:1x3x480x640",
    )  # fmt: skip
    manifest = open_bundle(path).manifest
    assert manifest.inputs[0].sample_shape == [1, 3, 96, 128]
    assert read_plan_header(path / "engine.plan").version == manifest.engine.version
    done = command("verify", path, "--graph-only")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_full_size_network(command: Command, tmp_path: Path) -> None:
    """PAG-ResNet-50 at full width: parse, build, header, manifest."""
    model = tmp_path / "m.onnx"
    factory = "pagdeploy.exporters.models.pag_resnet:resnet50"
    done = command("export", factory, "-o", model, "--shapes", "image:1x3x96x128", "-q")
    assert done.returncode == 0, done.stderr
    path = built(
        command, model, tmp_path / "m.pagbundle", "--precision", "fp16",
        "--shapes", "image:1x3x96x128", "--max-shapes", "image:1x3x480x640",
    )  # fmt: skip
    manifest = open_bundle(path).manifest
    assert len(manifest.gates) == 16 and len(manifest.ops) == 21
    assert read_plan_header(path / "engine.plan").size > 40e6  # 47 million weights in 16 bits
    assert manifest.outputs[0].shape[1:2] == [40]
