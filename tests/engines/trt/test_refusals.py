"""What goes wrong in a build gets its sentence, and no bundle is left."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from pagdeploy.engines.base import BuildOptions
from pagdeploy.engines.nvidia import driver
from pagdeploy.engines.nvidia.driver import Driver
from pagdeploy.engines.nvidia.obstacle import Obstacle
from pagdeploy.engines.nvidia.plugin_library import VARIABLE, library_name
from pagdeploy.engines.trt import TensorRtEngine
from pagdeploy.errors import BuildFailed, EnvironmentProblem
from pagdeploy.manifest import Profile
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.build import build
from tests.conftest import gated_model
from tests.engines.trt.conftest import plan_of, plugin

SHAPE = [1, 3, 8, 8]
SHAPES = {"image": SHAPE}


def lowered(precision="fp32"):
    """Our gated model with plugins."""
    return lower(gated_model(), "plugin", precision=Precision(precision))


def compiled(model=None, **options):
    """What the engine makes of a lowered model."""
    profile = {"image": Profile(min=SHAPE, opt=SHAPE, max=SHAPE)}
    asked = BuildOptions(profiles=[profile], **options)
    return TensorRtEngine().build((model or lowered()).SerializeToString(), asked)


class TestPluginLibrary:
    """Found, not found, refused."""

    def test_without_it_auto_builds_densely_and_says_so(
        self, install, model_file, tmp_path, monkeypatch
    ):
        install(11)
        monkeypatch.delenv(VARIABLE)
        result = build(model_file, tmp_path / "m.pagbundle", engine="tensorrt", shapes=SHAPES)
        assert result.manifest.engine.lowering == "dense"
        (told,) = (w for w in result.warnings if "left out" in w)
        assert told.startswith("The lowering plugin is left out. There is no plugin library for")
        assert result.manifest.engine.plan.plugins == []

    def test_without_it_the_plugin_lowering_fails(self, install, model_file, tmp_path, monkeypatch):
        install(11)
        monkeypatch.delenv(VARIABLE)
        with pytest.raises(EnvironmentProblem, match="no plugin library for TensorRT 11"):
            build(
                model_file,
                tmp_path / "m.pagbundle",
                engine="tensorrt",
                lowering="plugin",
                shapes=SHAPES,
            )
        assert not list(tmp_path.glob("*.pagbundle"))

    def test_one_of_another_major_is_not_taken(self, install, libraries):
        install(10)
        for_11 = libraries / library_name(11)
        with pytest.raises(EnvironmentProblem, match="is built for TensorRT 11, and 10 is"):
            compiled(plugins=[for_11])

    def test_a_library_is_loaded_once_a_process_also_under_another_path(
        self, install, libraries, tmp_path
    ):
        """TensorRT refuses the creators that it knows, in silence."""
        install(10)
        compiled()
        copy = tmp_path / library_name(10)
        copy.write_bytes((libraries / copy.name).read_bytes())
        assert list(compiled(plugins=[copy]).plugins) == [copy]

    def test_somebody_elses_with_creators_of_ours_is_refused(self, install, tmp_path):
        install(10)
        compiled()
        other = plugin(tmp_path / "libother.so", 10, "Other:1: PAGGate:1:pagdeploy")
        with pytest.raises(EnvironmentProblem, match=r"refuses the plugin library .*libother"):
            compiled(plugins=[other])

    def test_one_of_the_users_own_serves_an_op_of_theirs(self, install, model_file, tmp_path):
        install(10)
        own = plugin(tmp_path / "libown.so", 10, "Mine:1:own")
        result = build(
            model_file,
            tmp_path / "m.pagbundle",
            engine="tensorrt",
            lowering="plugin",
            shapes=SHAPES,
            options=BuildOptions(plugins=[own]),
        )
        names = ["plugins/libown.so", f"plugins/{library_name(10)}"]
        assert result.manifest.engine.plan.plugins == names
        assert (result.path / names[0]).read_bytes() == own.read_bytes()


class TestWhatTheParserMakes:
    """Held to the model."""

    @pytest.mark.parametrize("major", [10, 11])
    def test_a_body_in_a_plugins_place(self, major, install):
        install(major)
        model = attach_bodies(lowered())
        for node in model.graph.node:
            kept = [a for a in node.attribute if not a.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
        with pytest.raises(BuildFailed, match="The node 'node s1' did not become a plugin layer"):
            compiled(model)

    @pytest.mark.parametrize("major", [8, 10])
    def test_a_node_without_a_plugin(self, major, install):
        install(major)
        model = lowered()
        gate = next(node for node in model.graph.node if node.op_type == "PAGGate")
        next(a for a in gate.attribute if a.name == "plugin_version").s = b"7"
        text = "finds no plugin for the node PAGGate 'node s1'" if major > 8 else "Plugin not found"
        with pytest.raises(BuildFailed, match=text):
            compiled(model)

    def test_an_operator_that_it_lacks(self, install):
        install(8)
        model = onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[1, 2, 8, 8] x) => (int64[4, m] y) { y = NonZero (x) }"""
        )
        with pytest.raises(BuildFailed, match=r"The ONNX parser of TensorRT 8.6.1 refuses a node"):
            TensorRtEngine().build(model.SerializeToString(), BuildOptions())

    def test_a_value_of_another_type(self, install, monkeypatch):
        """A parser that drops a cast computes in float32 what was asked in float16."""
        trt = install(10)
        parse = trt.OnnxParser.parse

        def wrongly(self, model):
            done = parse(self, model)
            layers = self._network._layers
            next(x for x in layers if x.name == "node a").get_output(0).dtype = trt.float32
            return done

        monkeypatch.setattr(trt.OnnxParser, "parse", wrongly)
        with pytest.raises(BuildFailed, match=r"10.16.1.11 computes 'a' in FLOAT, not in FLOAT16"):
            compiled(lowered("fp16"))


class TestWhatTheBuilderMakes:
    """Held to the model, once more."""

    def test_no_engine(self, install, monkeypatch):
        trt = install(10)

        def none(self, network, config):
            self._logger.log(
                trt.ILogger.Severity.ERROR, "IBuilder::build: Error Code 10: No kernel. In f.cpp:1"
            )

        monkeypatch.setattr(trt.Builder, "build_serialized_network", none)
        text = r"TensorRT 10.16.1.11 builds no engine \(No kernel. In f.cpp:1\)"
        with pytest.raises(BuildFailed, match=text):
            compiled()

    @pytest.mark.parametrize("major", [8, 10, 11])
    def test_silent_float32(self, major, install, monkeypatch):
        """What the inspector tells of the built engine counts."""
        trt = install(major)
        tell = trt.EngineInspector.get_engine_information

        def wrongly(self, format):
            return tell(self, format).replace("FP16", "FP32").replace("Half", "Float")

        monkeypatch.setattr(trt.EngineInspector, "get_engine_information", wrongly)
        with pytest.raises(BuildFailed, match="in FLOAT, and the model says FLOAT16"):
            compiled(lowered("fp16"))

    def test_a_plugin_that_is_gone(self, install, monkeypatch):
        trt = install(10)
        tell = trt.EngineInspector.get_engine_information

        def without(self, format):
            told = json.loads(tell(self, format))
            told["Layers"] = [x for x in told["Layers"] if x["Name"] != "node y"]
            return json.dumps(told)

        monkeypatch.setattr(trt.EngineInspector, "get_engine_information", without)
        with pytest.raises(BuildFailed, match="no plugin layer for the node 'node y'; it has 3"):
            compiled()


def test_without_a_gpu_tensorrt_is_not_touched(install, monkeypatch, model_file, tmp_path):
    trt = install(10)
    none = Driver((), None, Obstacle("There is no NVIDIA driver here.", "Install it."))
    monkeypatch.setattr(driver, "driver", lambda: none)
    monkeypatch.setattr(trt, "Runtime", None)
    monkeypatch.setattr(trt, "Builder", None)
    with pytest.raises(EnvironmentProblem, match="There is no NVIDIA driver here"):
        build(model_file, tmp_path / "m.pagbundle", engine="tensorrt", shapes=SHAPES)
    result = build(model_file, tmp_path / "m.pagbundle", lowering="dense", shapes=SHAPES)
    assert result.manifest.engine.flavour == "onnxruntime"


def test_with_a_gpu_it_is_what_auto_takes(install, model_file, tmp_path):
    install(10)
    data = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    result = build(model_file, tmp_path / "m.pagbundle", lowering="dense", inputs=data)
    assert result.manifest.engine.flavour == "tensorrt"
    assert plan_of(result.path)["detailed"], "types between layers are told by detailed plans only"
