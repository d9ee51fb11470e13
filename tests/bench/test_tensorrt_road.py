"""The TensorRT road without a GPU: prepared, rehearsed in onnxruntime, and skipped for real."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.bench.conftest import road

needs_onnxruntime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)


@needs_onnxruntime
def test_rehearsal_ends_well(prepared, tmp_path):
    results = tmp_path / "results.json"
    stages = ["facts", "plugins", "layers"]
    done = road("run", prepared, "--self-check", "--stages", *stages, "--json", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planted faults are judged rightly" in done.stdout
    found = json.loads(results.read_text())["stages"]
    assert list(found) == stages
    cases = {row["case"] for row in found["plugins"]["rows"]}
    assert cases == {"gate.fp16", "conv.fp16", "both.fp16", "dynamic.fp16"}
    assert [row["plugins"] for row in found["layers"]["rows"]] == [1, 1, 4, 4]
    table = road("report", results, results).stdout
    assert "A rehearsal in onnxruntime" in table
    assert "| `plugins` | 15 | 0 |" in table


@needs_onnxruntime
@pytest.mark.slow
def test_large_network_in_small(tmp_path):
    """The weights that do not travel, forced densities, three engines in turns."""
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    folder, results = tmp_path / "road", tmp_path / "results.json"
    cases = ["--cases", "resnet50", "--small", "--precisions", "fp16"]
    done = road("prepare", "--out", folder, *cases)
    assert done.returncode == 0, done.stderr
    stages = ["--stages", "resnet50-fp16"]
    done = road("run", folder, "--self-check", *stages, "--json", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  0 generated tensors" not in done.stdout
    rows = json.loads(results.read_text())["stages"]["resnet50-fp16"]["rows"]
    assert len(rows) == 15
    timed = [row for row in rows if "times" in row]
    assert [row["density"] for row in timed] == [None, 1.0, 0.7, 0.5, 0.3]
    ceilings = [row["ceiling"] for row in timed[1:]]
    assert ceilings == sorted(ceilings)
    assert ceilings[0] > 1


@needs_onnxruntime
def test_wrong_answer_fails_the_stage(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "road")
    file = folder / "both.full.npz"
    arrays = dict(np.load(file))
    arrays["reference/y"][0, 3, 5, 7] += 1
    np.savez(file, **arrays)
    done = road("run", folder, "--self-check", "--stages", "dense")
    assert done.returncode == 1
    assert "the output y differs by" in done.stdout
    assert "most at (0, 3, 5, 7)" in done.stdout
    assert done.stdout.count("FAILED: dense: the output y") == 1


@needs_onnxruntime
def test_without_a_gpu_every_stage_is_skipped(prepared, part):
    stages = part("stages").STAGES
    if importlib.import_module("tensorrt_road").has_device():
        pytest.skip("there is a GPU here")
    done = road("run", prepared)
    assert done.returncode == 77
    assert done.stdout.splitlines() == [f"{name}: skipped: no CUDA device" for name in stages]


@needs_onnxruntime
def test_unknown_stage_is_refused(prepared):
    done = road("run", prepared, "--stages", "typo")
    assert done.returncode == 2
    assert done.stdout.startswith("there is no stage typo; the stages are facts, dense, plugins,")


def weights_of(shape, made):
    graph = onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(made, "w")])
    return onnx.helper.make_model(graph)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_generated_weights_come_back(part, dtype):
    weights = part("weights")
    book = weights.Cookbook()
    made = book.make(weights.recipe_for("conv1.weight", 0.07), (64, 32, 3, 3)).astype(dtype)
    model = weights_of(made.shape, made)
    assert book.strip(model) == made.nbytes
    assert len(model.SerializeToString()) < 500
    assert weights.refill(model) == 1
    back = numpy_helper.to_array(model.graph.initializer[0])
    assert back.dtype == made.dtype
    np.testing.assert_array_equal(back, made)


def test_generated_weights_are_the_same_everywhere(part):
    """The digest of another numpy on another machine would be this one."""
    weights = part("weights")
    made = weights.Recipe(7, 0.25).make((5,))
    words = np.random.PCG64(7).random_raw(3).astype("<u8").view("<u4")[:5] >> 8
    np.testing.assert_array_equal(made, (words.astype(np.float64) / 2**23 - 1) / 4)
    assert np.abs(made).max() <= 0.25
    assert weights.digest(made).startswith("a931ae28f94cd049")


def test_changed_weights_are_refused(part):
    weights = part("weights")
    book = weights.Cookbook()
    model = weights_of((64, 64), book.make(weights.recipe_for("a", 0.5), (64, 64)))
    book.strip(model)
    entries = {entry.key: entry for entry in model.graph.initializer[0].external_data}
    entries["seed"].value = "1"
    with pytest.raises(ValueError, match="the generated weights of w are not what they were"):
        weights.refill(model)


def test_conversions_beside_plugins_are_named(part):
    def layer(name, kind, source, target, form):
        tensors = [{"Name": name, "Format/Datatype": form} for name in (source, target)]
        return {"Name": name, "LayerType": kind, "Inputs": tensors[:1], "Outputs": tensors[1:]}

    layers = [
        layer("gate", "PluginV2", "logits", "s", "Row major linear FP32"),
        layer("copy", "Reformat", "s", "s copied", "Row major linear Int32"),
        layer("conv", "PluginV2", "s copied", "y", "Channel major FP16"),
        layer("out", "Reformat", "y", "y out", "Channel major FP16"),
        layer("far", "Reformat", "a", "b", "Row major linear Int32"),
    ]
    found = part("layers").layer_report(json.dumps({"Layers": layers}))
    assert found["plugins"] == 2
    assert found["conversions"] == ["copy", "out"]
    assert found["selection_conversions"] == ["copy"]
