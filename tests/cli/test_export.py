"""From a trained PyTorch model to a verified bundle, through the command line alone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from tests.cli.test_commands import ROOT, call, refused

MODEL = f"{ROOT}/examples/rooms/model.py:gated"
WEIGHTS = ROOT / "examples/rooms/weights/gated50.safetensors"
NET = """
from torch import nn

def factory():
    return nn.Conv2d(3, 4, 3, padding=1)
"""


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, dict[str, object]]:
    """The trained model as a portable file, and what the command printed as JSON."""
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    code, out, err = call(
        "export", MODEL, "--weights", WEIGHTS, "-o", path, "--shapes", "image:1x3x96x128", "--json"
    )
    assert code == 0 and not err, err
    return path, json.loads(out)


@pytest.fixture
def net(tmp_path) -> str:
    """Where to find a model of one convolution."""
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:factory"


def test_the_export_says_what_it_wrote(exported):
    path, answer = exported
    assert answer == {
        "path": str(path),
        "gates": 9,
        "perforated": 14,
        "recognised_gates": 0,
        "recognised_convolutions": 0,
        "varies": "batch, height and width",
        "opset": 17,
        "bytes": path.stat().st_size,
        "warnings": [],
    }
    assert [value.name for value in onnx.load(path).graph.output] == [
        "segmentation",
        "boundary",
        "depth",
        "normals",
    ]
    assert [file.name for file in path.parent.iterdir()] == ["m.onnx"]


def test_the_trained_model_becomes_a_verified_bundle(exported, tmp_path):
    model, _ = exported
    bundle = tmp_path / "m.pagbundle"
    code, out, err = call("build", model, "-o", bundle)
    assert code == 0 and f"{bundle}: onnxruntime " in out, err
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["inputs"][0]["sample_shape"] == [1, 3, 96, 128]
    code, out, err = call("verify", bundle)
    assert code == 0 and f"verified: {bundle}" in out, err
    code, out, err = call("verify", model, "--lowering", "gather", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["passed"] and not err
    assert len(answer["gates"]) == 9 and sum(gate["unexplained"] for gate in answer["gates"]) == 0
    assert {output["name"] for output in answer["outputs"]} == {
        "segmentation",
        "boundary",
        "depth",
        "normals",
    }


def test_a_model_of_ones_own_is_exported(net, tmp_path):
    path = tmp_path / "m.onnx"
    weights = tmp_path / "w.safetensors"
    state = {"weight": torch.ones(4, 3, 3, 3), "bias": torch.zeros(4)}
    save_file(state, weights)
    code, out, err = call(
        "export", net, "--weights", weights, "-o", path, "--shapes", "photo:1x3x8x9",
        "--output-names", "answer",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith(f"{path}: 0 gates, 0 perforated convolutions, opset 17, 0.0 MiB")
    assert "[1/4] load the model" in err and "warning" not in err
    graph = onnx.load(path).graph
    assert ([v.name for v in graph.input], [v.name for v in graph.output]) == (
        ["photo"],
        ["answer"],
    )


@pytest.mark.parametrize("form", ["torch.save", "raw pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(form, net, tmp_path):
    weights, touched, out = tmp_path / "w.pt", tmp_path / "touched", tmp_path / "m.onnx"
    payload = {"weight": Touch(touched)}
    if form == "torch.save":
        torch.save(payload, weights)
    else:
        weights.write_bytes(pickle.dumps(payload, protocol=4))
    text = (
        f"{weights} holds Python objects, which could run code when they are loaded. Save only the"
    )
    refused(4, text, "export", net, "--weights", weights, "-o", out)
    assert not touched.exists() and not out.exists()
    pickle.loads(pickle.dumps(payload))  # the proof that the payload is real
    assert touched.exists()


def test_bad_requests_to_export_are_refused(net, tmp_path):
    out = ["-o", tmp_path / "m.onnx"]
    source = net.removesuffix(":factory")
    refused(2, "has no attribute 'fast'. Check the name", "export", f"{source}:fast", *out)
    refused(2, "There is no file none.py. Check the path", "export", "none.py:factory", *out)
    refused(2, "There is no Python module 'no_such'", "export", "no_such:factory", *out)
    refused(2, "does not name a model. Write", "export", "net", *out)
    refused(2, "There is no weights file none.pt", "export", net, "--weights", "none.pt", *out)
    refused(2, "The shape 'image=3' cannot be read", "export", net, "--shapes", "image=3", *out)
    weights = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(4, 3, 5, 5), "bias": torch.zeros(4)}, weights)
    misfit = "does not fit the model: weight has the shape (4, 3, 5, 5) in the file and (4, 3, 3, 3"
    refused(4, misfit, "export", net, "--weights", weights, *out)
    save_file({"weight": torch.ones(4, 3, 3, 3)}, weights)
    refused(4, "lacks 1 tensors (bias)", "export", net, "--weights", weights, *out)
    weights.write_bytes(weights.read_bytes()[:50])
    refused(4, "is damaged or truncated", "export", net, "--weights", weights, *out)
    save_file({"weight": torch.ones(4, 3, 3, 3), "bias": torch.zeros(4)}, weights)
    refused(2, "does not exist. Create it", "export", net, "--weights", weights, "-o",
            tmp_path / "no/m.onnx")  # fmt: skip
    assert not (tmp_path / "m.onnx").exists()


def test_a_budget_needs_a_gate(net, tmp_path):
    export = ["export", net, "-o", tmp_path / "m.onnx", "--shapes", "image:1x3x8x8"]
    refused(2, "no gate with two branches, of which one skips", *export, "--budget-input", "budget")
    assert not (tmp_path / "m.onnx").exists()
