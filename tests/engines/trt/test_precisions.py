"""The same request means the same on every version: flags, types, and what comes out."""

from __future__ import annotations

import numpy as np
import pytest

from pagdeploy.errors import UsageError
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify
from tests.engines.trt.conftest import plan_of

SHAPES = {"image": [1, 3, 20, 24]}
DATA = {"image": np.random.default_rng(0).random((3, 3, 20, 24), np.float32)}
MAJORS = [8, 10, 11]


def built(model_file, tmp_path, precision="fp32", **options):
    """A bundle with a plan."""
    path = tmp_path / "m.pagbundle"
    data = {"calibration": DATA} if precision == "int8" else {}
    return build(
        model_file, path, engine="tensorrt", precision=precision, shapes=SHAPES, **data, **options
    )


@pytest.mark.parametrize(
    ("precision", "lowering"),
    [*((each, "plugin") for each in ("fp32", "tf32", "fp16", "int8")), ("fp16", "dense")],
)
@pytest.mark.parametrize("major", MAJORS)
def test_flags_are_those_of_the_precision(
    major, precision, lowering, install, model_file, tmp_path
):
    install(major)
    result = built(model_file, tmp_path, precision, lowering=lowering)
    plan = plan_of(result.path)
    weak = {"fp16": ["FP16"], "int8": ["INT8"]}.get(precision, [])
    wanted = ["OBEY_PRECISION_CONSTRAINTS", *weak] if major == 8 else []
    assert plan["flags"] == sorted(wanted + ["TF32"] * (precision == "tf32"))
    assert result.manifest.engine.precision == precision
    assert result.manifest.engine.version.startswith(f"{major}.")
    names = [layer["Name"] for layer in plan["layers"] if "Plugin" in layer["LayerType"]]
    plugins = ["node s1", "node a", "node s2", "node y"]
    assert names == (plugins if lowering == "plugin" else [])


@pytest.mark.parametrize(
    ("major", "precision"), [(8, "fp32"), (8, "fp16"), (8, "int8"), (10, "bf16"), (11, "bf16")]
)
def test_a_sound_plan_verifies(major, precision, install, model_file, tmp_path, memory):
    install(major)
    path = built(model_file, tmp_path, precision, lowering="plugin").path
    result = verify(path)
    assert result.passed, result.reason
    assert [output.name for output in result.plan] == ["y"]
    assert [gate.name for gate in result.gates] == ["node s1", "node s2"]
    assert not memory.held


def test_bfloat16_is_not_for_8(install, model_file, tmp_path):
    install(8)
    with pytest.raises(UsageError, match=r"TensorRT 8.6.1 does not compute in bf16"):
        built(model_file, tmp_path, "bf16")
    assert not list(tmp_path.glob("*.pagbundle"))


def test_8_is_told_the_precision_of_every_layer(install, model_file, tmp_path):
    """Weakly typed, it would choose itself; a gate puts out integers, and reads float32."""
    install(8)
    plan = plan_of(built(model_file, tmp_path, "fp16", lowering="plugin").path)
    asked = {layer["Name"]: layer["Precision"] for layer in plan["layers"]}
    assert {name: asked[name] for name in ("node s1", "node s2", "node l1")} == {
        "node s1": "FLOAT",
        "node s2": "FLOAT",
        "node l1": "FLOAT",
    }
    assert {asked[name] for name in ("node x", "node a", "node y")} == {"HALF"}


def test_both_lowerings_are_timed_and_the_faster_is_kept(install, model_file, tmp_path, memory):
    install(10)
    engine = built(model_file, tmp_path).manifest.engine
    assert set(engine.measured_ms) == {"plugin", "dense"}
    assert engine.lowering == min(engine.measured_ms, key=lambda name: engine.measured_ms[name])
    assert not memory.held, "the sessions that were timed are freed"
