"""Networks in plain PyTorch: exported with their gates recognised, and with the sizes they take."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.errors import UsageError, VerificationFailed
from pagdeploy.exporters import from_torch
from pagdeploy.exporters.models import catalogue
from pagdeploy.graph.gates import expose, gates_of
from pagdeploy.graph.read import read_model
from pagdeploy.verbs.build import build
from pagdeploy.verbs.export import export
from pagdeploy.verbs.proof import run_lowered
from pagdeploy.verbs.sizes import export_open_sizes
from pagdeploy.verbs.verify import verify
from tests.cli.test_commands import call

NET = '''
import torch
from torch import nn
from layers import Block


class Net(nn.Module):
    """Its authors never heard of a compiler."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = Block(width)

    def forward(self, image):
        return self.block(torch.relu(self.stem(image)))


def make():
    return Net(4)
'''
LAYERS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Conv2d(width, 1, 1)
        self.conv = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x):
        mask = (self.gate(x) >= 0).float()
        return torch.relu(x + mask * self.conv(x))
"""


class Net(nn.Module):
    """The same network, in this file."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = nn.Module()
        self.block.gate = nn.Conv2d(width, 1, 1)
        conv = nn.Conv2d(width, width, 3, padding=1)
        self.block.conv = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        mask = (self.block.gate(x) >= 0).float()
        return torch.relu(x + mask * self.block.conv(x))


IMAGE = np.random.default_rng(0).random((2, 3, 20, 26), np.float32)
SHAPES = {"image": (1, 3, 16, 24)}


def settled(model: nn.Module) -> nn.Module:
    """With gates that are of two minds on the image."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        scores = model.block.gate(torch.relu(model.stem(torch.from_numpy(IMAGE))))
        model.block.gate.bias -= scores.median()
    return model.eval()


def answers(path: Path, budget: float | None = None) -> dict[str, np.ndarray]:
    model = read_model(path)
    names = [name for gate in gates_of(model) for name in (gate.logits, gate.selection)]
    given = {model.graph.input[0].name: IMAGE}
    if budget is not None:
        given["budget"] = np.array(budget, np.float32)
    return run_lowered(expose(model, names), given)


def dims_of(model: onnx.ModelProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]


def test_a_network_from_a_folder_of_ones_own_with_its_checkpoint(tmp_path):
    folder, path = tmp_path / "theirs", tmp_path / "m.onnx"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "layers.py").write_text(LAYERS)
    model = settled(Net())
    torch.save({"state_dict": model.state_dict()}, folder / "last.ckpt")
    code, out, err = call(
        "export", f"{folder}/net.py:make", "--weights", folder / "last.ckpt", "-o", path,
        "--shapes", "image:1x3x16x24",
    )  # fmt: skip
    assert code == 0 and "warning" not in err, err
    assert out.startswith(
        f"{path}: 1 gates, 1 perforated convolutions (1 and 1 recognised), opset 17, 0.0 MiB"
    )
    assert out.strip().endswith("varies: batch, height and width")
    with torch.no_grad():
        wanted = model(torch.from_numpy(IMAGE)).numpy()
    assert compare("y", answers(path)["output"], wanted, NETWORK_BOUNDS["fp32"]).passed
    (gate,) = gates_of(read_model(path))
    assert gate.name == "block/GreaterOrEqual", "named after the module that decides"
    bundle = tmp_path / "m.pagbundle"
    build(path, bundle, engine="onnxruntime", inputs={"image": IMAGE})
    assert verify(bundle).passed


def test_a_saved_program_of_theirs(tmp_path):
    model, dynamic = settled(Net()), torch.export.Dim.DYNAMIC
    axes = ({0: dynamic, 2: dynamic, 3: dynamic},)
    program = torch.export.export(model, (torch.rand(2, 3, 16, 24),), dynamic_shapes=axes)
    torch.export.save(program, tmp_path / "net.pt2")
    result = export(f"{tmp_path}/net.pt2", tmp_path / "m.onnx")
    assert (result.recognised_gates, result.recognised_convolutions, result.warnings) == (1, 1, [])
    with torch.no_grad():
        wanted = model(torch.from_numpy(IMAGE)).numpy()
    found = answers(tmp_path / "m.onnx")
    assert compare("y", found["output"], wanted, NETWORK_BOUNDS["fp32"]).passed
    fixed = export(f"{tmp_path}/net.pt2", tmp_path / "f.onnx", fixed_shapes=True)
    assert (fixed.varies, fixed.recognised_gates) == ("nothing", 1)
    assert dims_of(read_model(tmp_path / "f.onnx")) == [2, 3, 16, 24]


# --- sizes ---


@pytest.mark.parametrize("name", ["LASNet (patches)", "PerforatedCNN"])
def test_sizes_that_the_code_fixes_are_fixed_in_the_file(name, tmp_path):
    """The exporter puts the network's own check off, and writes the sizes down as dynamic."""
    system = catalogue.find(name)
    model, inputs = system.factory(), system.inputs(3, 64)
    path = tmp_path / "m.onnx"
    result = export(model, path, shapes={"image": (1, 3, 64, 64)})
    proto = read_model(path)
    assert dims_of(proto) == ["batch", 3, 64, 64] and result.varies == "batch"
    assert result.gates == result.recognised_gates == system.gates
    assert result.warnings == [
        "The model is exported for the sizes of its example, and the batch alone varies:"
        " PyTorch's own model takes no other sizes. Export it once for each size, with --shapes."
    ]
    with torch.no_grad():
        wanted = model(*inputs).numpy()
    found = run_lowered(proto, {"image": inputs[0].numpy()})["output"]
    assert compare("output", found, wanted, NETWORK_BOUNDS["fp32"]).passed


def test_fixed_sizes_on_request(tmp_path):
    result = export(settled(Net()), tmp_path / "m.onnx", shapes=SHAPES, fixed_shapes=True)
    assert (result.varies, result.warnings) == ("nothing", [])
    assert dims_of(read_model(tmp_path / "m.onnx")) == [1, 3, 16, 24]


class Scaled(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.factor


class ByHeight(nn.Module):
    """Multiplies by its input's height."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * image.shape[2]


def wrong_where(dynamic):
    """An exporter that takes the example's height for a constant in some forms."""

    def write(model, given, *, dynamic_shapes):
        source = Scaled(16.0).eval() if dynamic(dynamic_shapes) else model
        return from_torch.export(source, given, dynamic_shapes=dynamic_shapes)

    return write


def test_a_number_that_was_a_size_is_noticed():
    inputs = {"image": torch.rand(SHAPES["image"])}
    write = wrong_where(lambda shapes: shapes is None)
    proto, (note,) = export_open_sizes(write, ByHeight().eval(), inputs, fixed=False)
    assert dims_of(proto) == ["batch", 3, 16, 24]
    assert "at image 2x3x48x88 'output' differs by 0.67 of its root mean square." in note


def test_what_is_wrong_at_every_size_is_an_error():
    inputs = {"image": torch.rand(1, 3, 8, 24)}
    write = wrong_where(lambda shapes: True)
    with pytest.raises(VerificationFailed, match="at the example's sizes 'output' differs by 1 of"):
        export_open_sizes(write, ByHeight().eval(), inputs, fixed=False)


class Halves(nn.Module):
    """What PyTorch's exporter can express only for sizes that it knows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.shape[2] == 16 else -image


def test_sizes_that_the_exporter_refuses_to_leave_open(tmp_path):
    result = export(Halves().eval(), tmp_path / "m.onnx", shapes=SHAPES)
    assert result.varies == "batch"
    assert "The model works only with size 16 on axis 2 of 'image'." in result.warnings[0]


# --- noise ---


class Noisy(Net):
    """Samples its gate in evaluation, too."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        g = self.block.gate(x)
        mask = F.gumbel_softmax(torch.cat([-g, g], 1), hard=True, dim=1)[:, 1:]
        return torch.relu(x + mask * self.block.conv(x))


class TwoDraws(Net):
    """Samples its gate as DynConv's Gumbel unit does: two draws on one score."""

    noise = True

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        g, tiny = self.block.gate(x), 1e-8
        if self.noise:
            one, other = torch.rand_like(g), torch.rand_like(g)
            one = -torch.log(-torch.log(one + tiny) + tiny)
            other = -torch.log(-torch.log(other + tiny) + tiny)
            g = g + one - other
        soft = torch.sigmoid(g / 0.7)
        mask = ((soft >= 0.5).float() - soft).detach() + soft
        return torch.relu(x + mask * self.block.conv(x))


class Random(nn.Module):
    """Draws what is no gate's."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand_like(image)


def test_noise_of_a_gate_is_taken_out_and_other_noise_refused(tmp_path):
    path = tmp_path / "m.onnx"
    result = export(settled(Noisy()), path, shapes=SHAPES)
    assert (result.recognised_gates, result.recognised_convolutions) == (1, 1)
    assert result.warnings == [
        "the model draws random numbers, so it was not compared with PyTorch."
    ]
    one, other = answers(path), answers(path)
    np.testing.assert_array_equal(one["output"], other["output"])
    path.unlink()
    with pytest.raises(UsageError, match="draws random numbers in evaluation: RandomUniformLike"):
        export(Random().eval(), path, shapes=SHAPES)
    assert not path.exists()


def test_both_draws_of_a_gate_are_taken_out(tmp_path):
    path = tmp_path / "m.onnx"
    result = export(settled(TwoDraws()), path, shapes=SHAPES)
    assert (result.recognised_gates, result.recognised_convolutions) == (1, 1)
    quiet = settled(TwoDraws())
    quiet.noise = False
    with torch.no_grad():
        wanted = quiet(torch.from_numpy(IMAGE)).numpy()
    for _ in range(2):
        assert compare("y", answers(path)["output"], wanted, NETWORK_BOUNDS["fp32"]).passed


# --- budgets ---


class Strict(Net):
    """A tie skips."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        mask = (self.block.gate(x) > 0).float()
        return x * (1 - mask) + mask * self.block.conv(x)


class Dilated(Net):
    """The mask grows before it rules."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        skips = (self.block.gate(x) < 0).float()
        mask = F.max_pool2d(1 - skips, 3, 1, 1)
        return torch.relu(x + mask * self.block.conv(x))


class PerImage(Net):
    """One decision an image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        p = torch.sigmoid(self.block.gate(x).mean((2, 3), keepdim=True))
        return torch.relu(x + (p > 0.5) * self.block.conv(x))


class Both(Net):
    """Each branch has a convolution of its own."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        mask = self.block.gate(x) >= 0
        return torch.where(mask, self.block.conv(x), self.block.conv[0](x * 2))


@pytest.mark.parametrize("network", [Net, Strict, Dilated, PerImage])
def test_a_budget_moves_gates_of_others(network, tmp_path):
    torch.manual_seed(0)
    model = settled(network())
    export(model, tmp_path / "plain.onnx", shapes=SHAPES)
    export(model, tmp_path / "m.onnx", shapes=SHAPES, budget_input="budget")
    plain = answers(tmp_path / "plain.onnx")
    (gate,) = gates_of(read_model(tmp_path / "m.onnx"))
    at_zero = answers(tmp_path / "m.onnx", 0.0)
    for name, array in plain.items():
        if not name.endswith(".logits"):
            np.testing.assert_array_equal(at_zero[name], array, name)
    computes = 0 if network in (Net, Dilated) else 1
    budgets = [-np.inf, -1.0, -0.1, 0.0, 0.1, 1.0, np.inf]
    found = [answers(tmp_path / "m.onnx", budget) for budget in budgets]
    masks = [answer[gate.selection] == computes for answer in found]
    for more, fewer in itertools.pairwise(masks):
        assert np.all(fewer <= more), "a pixel that is skipped stays so"
    assert masks[0].all() and not masks[-1].any()
    assert network is PerImage or 0 < masks[3].mean() < 1
    noted = {entry.key: entry.value for entry in read_model(tmp_path / "m.onnx").metadata_props}
    assert noted["pagdeploy.budget_input"] == "budget"
    assert json.loads(noted["pagdeploy.example_shapes"]) == {"image": [1, 3, 16, 24], "budget": []}
    given = {"image": IMAGE, "budget": np.array(0.1, np.float32)}
    build(tmp_path / "m.onnx", tmp_path / "m.pagbundle", engine="onnxruntime", inputs=given)
    assert verify(tmp_path / "m.pagbundle").passed


def test_a_gate_both_of_whose_branches_compute_has_no_budget(tmp_path, caplog):
    with (
        caplog.at_level("INFO", "pagdeploy"),
        pytest.raises(UsageError, match="no gate with two branches, of which one skips"),
    ):
        export(settled(Both()), tmp_path / "m.onnx", shapes=SHAPES, budget_input="budget")
    assert "has no budget: both of its branches compute" in caplog.text
    assert not (tmp_path / "m.onnx").exists()
