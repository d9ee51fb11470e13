"""What `pagdeploy verify` says when it is asked for more: exit codes, one reason, files, JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from pagdeploy.verbs.build import build
from tests import faults
from tests.cli.test_commands import call, refused
from tests.verbs.test_road import plant

SHAPES = {"image": [1, 3, 14, 18]}
TOLD = ("--layers", "--bisect", "--against", "dense")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """The network that faults are planted in, as a file."""
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    onnx.save(faults.network(), path)
    return path


@pytest.fixture
def healthy(network, tmp_path) -> Path:
    """A bundle of it."""
    path = tmp_path / "healthy.pagbundle"
    build(network, path, engine="onnxruntime", lowering="dense", shapes=SHAPES)
    return path


@pytest.fixture
def faulty(healthy) -> Path:
    """The bundle, one of whose layers has another checkpoint's weights."""
    plant(healthy, lambda graph: _stale(graph, "refine2_w"))
    return healthy


def _stale(graph: onnx.GraphProto, name: str) -> None:
    holder = onnx.ModelProto(graph=graph)
    faults.stale_weight(holder, faults.network(), name)
    graph.CopyFrom(holder.graph)


def test_a_healthy_engine_exits_with_0_and_tells_what_was_asked(healthy, tmp_path):
    page = tmp_path / "r.html"
    code, out, err = call("verify", healthy, *TOLD, "--html", page)
    assert code == 0, err
    for words in (
        "Layers: the 11 nearest to their bounds, of 11",
        "Against the dense lowering, with the same decisions",
        "decisions that differ: none",
        "bisect: no layer is beyond its bound (2 builds)",
        f"wrote {page}",
    ):
        assert words in out
    assert "failed" not in err and page.stat().st_size > 10_000


def test_the_json_has_every_layer_and_nothing_beside_it(healthy):
    code, out, err = call("verify", healthy, *TOLD, "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["passed"] is True and answer["reason"] is None
    assert len(answer["layers"]) == 11 and answer["builds"] == 2 and answer["fault"] is None
    for layer in answer["layers"]:
        assert layer["own"]["error"] <= layer["own"]["bound"]
        assert layer["nodes"] and layer["engine_nodes"]
    assert [output["name"] for output in answer["against"]["forced"]] == ["depth"]


@pytest.mark.parametrize("option", ["--layers", "--bisect"])
def test_a_fault_exits_with_1_and_one_reason(option, faulty, tmp_path):
    page = tmp_path / "r.html"
    code, out, err = call("verify", faulty, option, "--html", page)
    assert code == 1 and "verified" not in out and "Traceback" not in err
    (reason,) = [line for line in err.splitlines() if not line.startswith("[")]
    assert reason.startswith("failed: Output 'depth' differs by "), reason
    assert ("first fault: refine2 (PerforatedConv) computes" in out) == (option == "--bisect")
    assert ("FAILED" in out.partition("Layers:")[2]) == (option == "--layers")
    text = page.read_text(encoding="utf-8")
    assert "<strong>FAILED </strong>Output &#x27;depth&#x27; differs" in text
    assert "refine2 (PerforatedConv)" in text

    code, out, err = call("verify", faulty, option, "--json")
    answer = json.loads(out)
    assert (code, err, answer["passed"]) == (1, "", False)
    assert f"failed: {answer['reason']}" == reason
    if option == "--bisect":
        assert "refine2 (PerforatedConv)" in answer["fault"]["nodes"]
    else:
        wrong = [la for la in answer["layers"] if la["own"]["error"] > la["own"]["bound"]]
        assert [layer["value"] for layer in wrong] == ["refined2"]


def test_another_function_exits_with_1(network, tmp_path):
    other = faults.network()
    faults.scale_weight(other, "mix_w", 1.2)
    onnx.save(other, tmp_path / "other.onnx")
    asked = ["verify", network, "--shapes", "image:1x3x14x18", "--against"]
    code, out, err = call(*asked, tmp_path / "other.onnx")
    assert code == 1 and "differs" in out.partition("with the same decisions")[2]
    assert err.splitlines()[-1].startswith("failed: Output 'depth' differs by ")
    code, out, err = call(*asked, network)
    assert code == 0 and "decisions that differ: none" in out, err


def test_bad_requests_are_refused(network, healthy, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    verify = ["verify", healthy]
    for code, text, options in (
        (2, "There is nothing to compare with at nowhere. Write --against ort, dense, torch, or",
         ["--against", "nowhere"]),
        (2, "needs the model's factory", ["--against", "torch"]),
        (2, "no other one takes it", ["--against", "dense", "--factory", "m.py:factory"]),
        (2, "no other one takes it", ["--factory", "m.py:factory"]),
        (2, "no other one takes it", ["--against", "dense", "--weights", "w.safetensors"]),
        (2, "is not a bundle: it has no manifest.json", ["--against", tmp_path / "empty"]),
        (4, "is not an ONNX model", ["--against", tmp_path / "text.onnx"]),
        (2, "is sealed", ["--html", healthy / "r.html"]),
        (2, "does not exist", ["--html", tmp_path / "none" / "r.html"]),
        (2, "The engine of", ["--graph-only", "--layers"]),
    ):  # fmt: skip
        refused(code, text, *verify, "-q", *options)
    _, _, err = call(*verify, "--against", "nowhere")  # before anything runs
    assert not err.startswith("["), "it began before it looked at the request"
    text = "--graph-only belongs to a bundle"
    refused(2, text, "verify", network, "--graph-only", "--bisect", "-q")
    renamed = faults.network()
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "distance"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    text = "has the outputs distance, and"
    refused(2, text, *verify, "--against", tmp_path / "renamed.onnx", "-q")


@pytest.mark.parametrize("option", ["--layers", "--bisect", "--against=dense", "--html=r.html"])
def test_scores_are_not_mixed_with_a_proof(option, healthy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", image=np.zeros((3, 14, 18), np.float32))
    refused(2, "The option --data scores tasks", "verify", healthy, "--data", ".", option)
    assert not Path("r.html").exists()


def test_data_that_is_none_is_refused(healthy, tmp_path):
    refused(2, "There is no folder", "verify", healthy, "--data", tmp_path / "no", "-q")
    refused(2, "has no images", "verify", healthy, "--data", tmp_path / "healthy.pagbundle", "-q")
    refused(2, "belong to scores", "verify", healthy, "--max-loss", "1", "-q")


def test_pytorch_that_cannot_be_had_is_told(healthy, tmp_path, monkeypatch):
    factory = tmp_path / "m.py"
    factory.write_text("def factory(): raise ValueError('not today')\n")
    asked = ["verify", healthy, "-q", "--against", "torch", "--factory"]
    pytest.importorskip("torch")
    refused(2, "not today", *asked, f"{factory}:factory")
    refused(2, "has no attribute 'other'", *asked, f"{factory}:other")
    refused(2, "There is no file", *asked, f"{tmp_path / 'none.py'}:factory")
    for name in [name for name in sys.modules if name.startswith("pagdeploy.exporters")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(3, "PyTorch", *asked, f"{factory}:factory")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
def test_what_a_model_is_called_does_not_move_the_cursor(tmp_path):
    """Names come from whoever made the model: no escape sequence reaches the terminal."""
    model = faults.network()
    evil = "depth\x1b[2J"
    model.graph.output[0].name = model.graph.node[-1].output[0] = evil
    path, other = tmp_path / "evil.onnx", tmp_path / "other.onnx"
    onnx.save(model, path)
    faults.scale_weight(model, "mix_w", 1.2)
    onnx.save(model, other)
    asked = ["verify", path, "--shapes", "image:1x3x14x18", "--layers", "--bisect"]
    for options, code in (([], 0), (["--against", other], 1)):
        got, out, err = call(*asked, *options)
        assert got == code and "\x1b" not in out + err
