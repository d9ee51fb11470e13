"""What the user asks of the builder reaches it, and is written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.engines.base import BuildOptions
from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.verbs.build import build
from pagdeploy.verbs.run import load
from tests.engines.trt.conftest import plan_of

SHAPES = {"image": [1, 3, 8, 8]}


def built(model_file, path, **options):
    """A bundle with a plan, from options of the engine."""
    return build(
        model_file,
        path,
        engine="tensorrt",
        lowering="plugin",
        shapes=SHAPES,
        options=BuildOptions(**options),
    )


def test_profiles_are_the_builders_and_choose_the_context(install, model_file, tmp_path, memory):
    install(10)
    path = tmp_path / "m.pagbundle"
    build(
        model_file,
        path,
        engine="tensorrt",
        lowering="plugin",
        min_shapes=[{"image": [1, 3, 8, 8]}, {"image": [1, 3, 16, 16]}],
        max_shapes=[{"image": [1, 3, 12, 12]}, {"image": [4, 3, 32, 32]}],
    )
    wanted = [([1, 3, 8, 8], [1, 3, 12, 12]), ([1, 3, 16, 16], [4, 3, 32, 32])]
    asked = [(p["image"][0], p["image"][2]) for p in plan_of(path)["profiles"]]
    profiles = open_bundle(path).manifest.engine.plan.profiles
    told = [(p["image"].min, p["image"].max) for p in profiles]
    assert asked == told == wanted
    session = load(path)
    assert [(t.name, t.dtype, t.shape[1]) for t in session.inputs] == [("image", "float32", 3)]
    for shape in ((1, 3, 9, 10), (3, 3, 20, 18), (1, 3, 12, 12)):
        outputs = session.run({"image": np.zeros(shape, np.float32)})
        assert outputs["y"].shape == (shape[0], 4, *shape[2:])
    with pytest.raises(UsageError, match="image 1x3x14x14 lies outside of what the engine was"):
        session.run({"image": np.zeros((1, 3, 14, 14), np.float32)})
    with pytest.raises(UsageError, match="The model wants image: float32"):
        session.run({"image": np.zeros((1, 3, 8, 8), np.float64)})
    assert memory.held
    del session
    assert not memory.held, "buffers and streams are freed with the session"


@pytest.mark.parametrize("major", [8, 10, 11])
def test_level_pools_and_compatibility(major, install, model_file, tmp_path):
    install(major)
    pools = {"workspace": 2**28, "tactic_dram": 2**30}
    result = built(
        model_file,
        tmp_path / "m.pagbundle",
        builder_optimization_level=5,
        memory_pools=pools,
        version_compatible=True,
        hardware_compatibility="ampere_plus",
    )
    plan, told = plan_of(result.path), result.manifest.engine.plan
    assert plan["level"] == told.builder_optimization_level == 5
    assert plan["pools"] == {"WORKSPACE": 2**28, "TACTIC_DRAM": 2**30}
    assert told.memory_pools == pools
    assert plan["hardware"] == "AMPERE_PLUS" and told.hardware_compatibility == "ampere_plus"
    assert "VERSION_COMPATIBLE" in plan["flags"] and told.version_compatible
    assert told.compute_capabilities == ["8.9"]


@pytest.mark.parametrize("compatible", [False, True])
def test_only_a_version_compatible_plan_holds_the_library(
    compatible, install, model_file, tmp_path, libraries
):
    install(10)
    result = built(model_file, tmp_path / "m.pagbundle", version_compatible=compatible)
    library = (libraries / "libpagdeploy_plugins_trt10.so").read_bytes()
    assert plan_of(result.path)["libraries"] == ([library.hex()] if compatible else [])
    told = result.manifest.engine.plan
    assert told.embeds_plugins == compatible
    assert told.plugins == ["plugins/libpagdeploy_plugins_trt10.so"]
    assert (result.path / told.plugins[0]).read_bytes() == library


@pytest.mark.parametrize(
    ("major", "options", "text"),
    [
        (8, {"hardware_compatibility": "same_compute_capability"}, "--hardware-comp"),
        (8, {"error_on_timing_cache_miss": True}, "--error-on-timing-cache-miss"),
        (10, {"memory_pools": {"heap": 1}}, "There is no memory pool 'heap'"),
        (10, {"compute_capabilities": ["8.9"]}, "TensorRT builds for the GPU of this machine"),
        (
            10,
            {"use_timing_cache": False, "error_on_timing_cache_miss": True},
            "A timing cache is asked for and forbidden",
        ),
    ],
)
def test_what_this_version_lacks_is_refused(major, options, text, install, model_file, tmp_path):
    install(major)
    with pytest.raises(UsageError, match=text):
        built(model_file, tmp_path / "m.pagbundle", **options)


def test_steps_of_the_builder_are_told(install, model_file, tmp_path):
    install(10)
    steps: list[str] = []
    build(
        model_file,
        tmp_path / "m.pagbundle",
        engine="tensorrt",
        lowering="plugin",
        shapes=SHAPES,
        progress=lambda step, number, total: steps.append(step),
    )
    assert [s for s in steps if "building" in s] == [
        "building Engine, 1 of 2",
        "building Engine, 2 of 2",
        "building Engine, 2 of 2",
    ]


class TestTimingCache:
    """Measurements, kept by version, GPU and driver."""

    def kept(self, tmp_path: Path) -> list[Path]:
        return list((tmp_path / "cache").rglob("*.cache"))

    def test_is_kept_in_the_cache_folder_and_in_the_bundle(self, install, model_file, tmp_path):
        install(10)
        first = built(model_file, tmp_path / "m.pagbundle")
        (file,) = self.kept(tmp_path)
        assert file.name == "tensorrt_10.16.1.11-NVIDIA_Test-580.65.cache"
        assert b"node a" in file.read_bytes()
        assert (first.path / "timing.cache").read_bytes() == file.read_bytes()
        assert any("The first build measures every kernel" in w for w in first.warnings)
        again = built(model_file, tmp_path / "m.pagbundle", error_on_timing_cache_miss=True)
        assert not any("measure" in w for w in again.warnings)

    def test_a_miss_fails_where_that_is_asked(self, install, model_file, tmp_path):
        install(10)
        with pytest.raises(BuildFailed, match="a measurement is not in the timing cache"):
            built(model_file, tmp_path / "m.pagbundle", error_on_timing_cache_miss=True)

    def test_a_folder_that_cannot_be_written_is_told(self, install, model_file, tmp_path):
        install(10)
        (tmp_path / "cache").write_text("in the way")
        result = built(model_file, tmp_path / "m.pagbundle")
        assert any(w.startswith("What is measured is not kept") for w in result.warnings)
        assert b"node a" in (result.path / "timing.cache").read_bytes()

    def test_a_named_file_of_something_else_is_left_alone(self, install, model_file, tmp_path):
        install(10)
        (tmp_path / "photo.png").write_bytes(b"precious")
        with pytest.raises(UsageError, match="is not a timing cache of this TensorRT"):
            built(model_file, tmp_path / "m.pagbundle", timing_cache=tmp_path / "photo.png")
        assert (tmp_path / "photo.png").read_bytes() == b"precious"
        assert self.kept(tmp_path) == []

    def test_none_is_used_where_it_is_forbidden(self, install, model_file, tmp_path):
        install(10)
        result = built(model_file, tmp_path / "m.pagbundle", use_timing_cache=False)
        assert self.kept(tmp_path) == [] and not (result.path / "timing.cache").exists()
        assert result.manifest.engine.plan.timing_cache is None
