"""A bundle is built again as it was asked for, through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pagdeploy.bundle import open_bundle
from tests.cli.test_commands import call
from tests.engines.trt.conftest import plan_of

ASKED = (
    "--engine", "tensorrt", "--lowering", "plugin", "--builder-optimization-level", 4,
    "--mem-pool-size", "workspace:64M", "--version-compatible",
    "--hardware-compatibility-level", "ampere+",
    "--minShapes=image:1x3x8x8", "--optShapes=image:1x3x20x24", "--maxShapes=image:2x3x32x32",
)  # fmt: skip
SAME = ("flags", "level", "pools", "hardware", "profiles", "libraries")


def commanded(*arguments):
    """The answer of a command that must succeed, which prints JSON and nothing else."""
    code, out, err = call(*arguments, "--json")
    assert (code, err) == (0, ""), f"{out}\n{err}"
    return json.loads(out)


@pytest.fixture
def data(tmp_path):
    """Typical inputs, in a file."""
    inputs = np.random.default_rng(0).random((3, 3, 20, 24), np.float32)
    np.savez(tmp_path / "c.npz", image=inputs)
    return tmp_path / "c.npz"


def test_as_before(install, model_file, tmp_path, data):
    install(10)
    first, second = tmp_path / "a.pagbundle", tmp_path / "b.pagbundle"
    int8 = ("--precision", "int8", "--calibration-data", data)
    commanded("build", model_file, "-o", first, *ASKED, *int8)
    answer = commanded("build", "--from-bundle", first, "-o", second, "--lowering", "plugin")
    assert answer["manifest"]["engine"]["precision"] == "int8"
    old, new = plan_of(first), plan_of(second)
    assert {name: old[name] for name in SAME} == {name: new[name] for name in SAME}
    assert (old["level"], old["pools"]) == (4, {"WORKSPACE": 2**26})
    assert open_bundle(first).manifest.engine.plan == open_bundle(second).manifest.engine.plan
    ranges = [(path / "calibration.json").read_text() for path in (first, second)]
    assert ranges[0] == ranges[1]
    samples = [open_bundle(path).arrays("sample/inputs.npz")["image"] for path in (first, second)]
    np.testing.assert_array_equal(*samples)


def test_otherwise_where_that_is_asked(install, model_file, tmp_path, data):
    install(10)
    first, second = tmp_path / "a.pagbundle", tmp_path / "b.pagbundle"
    commanded(
        "build", model_file, "-o", first, *ASKED, "--precision", "int8", "--calibration-data", data
    )
    np.savez(data, image=2 * np.load(data)["image"])
    install(11)
    commanded(
        "build", "--from-bundle", first, "-o", second, "--lowering", "plugin",
        "--calibration-data", data, "--builder-optimization-level", 0,
        "--max-shapes", "image:3x3x64x64",
    )  # fmt: skip
    manifest, plan = open_bundle(second).manifest, plan_of(second)
    assert manifest.engine.version == "11.4.0.106" and plan["level"] == 0
    assert plan["profiles"] == [{"image": [[1, 3, 8, 8], [1, 3, 20, 24], [3, 3, 64, 64]]}]
    assert plan["pools"] == {"WORKSPACE": 2**26}
    assert manifest.engine.plan.plugins == ["plugins/libpagdeploy_plugins_trt11.so"]
    ranges = [(path / "calibration.json").read_text() for path in (first, second)]
    assert ranges[0] != ranges[1]


def test_what_was_measured_travels_in_the_bundle(install, model_file, tmp_path, monkeypatch):
    install(10)
    first, second = tmp_path / "a.pagbundle", tmp_path / "b.pagbundle"
    commanded("build", model_file, "-o", first, *ASKED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    again = ("build", "--from-bundle", first, "-o", second, "--lowering", "plugin")
    answer = commanded(*again, "--error-on-timing-cache-miss")
    assert not any("measures" in warning for warning in answer["warnings"])


def test_every_command_speaks_json_and_nothing_else(install, model_file, tmp_path, capfd):
    """The logs of TensorRT and of polygraphy go elsewhere."""
    install(10)
    path = tmp_path / "m.pagbundle"
    commanded("build", model_file, "-o", path, *ASKED)
    allowed = (path, "--allow-host-code")
    assert commanded("verify", *allowed)["passed"]
    assert [row["name"] for row in commanded("run", *allowed)] == ["y"]
    commanded("profile", *allowed, "--duration", 0, "--iterations", 1, "--warm-up", 0)
    commanded("inspect", path)
    assert capfd.readouterr() == ("", ""), "nothing went around Python's streams"
    code, out, err = call("run", path, "--json")
    assert (code, err, json.loads(out)["exit_code"]) == (2, "", 2)
