"""Only tensors are read from a weights file, and whatever does not fit is named."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.weights import load_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def state():
    torch.manual_seed(1)
    return {
        n: torch.rand_like(v) if v.is_floating_point() else v for n, v in Net().state_dict().items()
    }


def require_loaded(model, state):
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name].to(value.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_a_state_dict_is_loaded(tmp_path, state, name):
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    model = Net()
    assert load_weights(model, path) == ()
    require_loaded(model, state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_wrapped_checkpoint_is_loaded(tmp_path, state, key):
    ordered = collections.OrderedDict(state)
    torch.save({"epoch": 3, key: ordered, "lr": 0.1}, tmp_path / "w.pt")
    model = Net()
    load_weights(model, tmp_path / "w.pt")
    require_loaded(model, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrappers_are_dropped(tmp_path, state, prefix):
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "w.pt")
    model = Net()
    load_weights(model, tmp_path / "w.pt")
    require_loaded(model, state)


def test_half_precision_is_cast_to_the_model(tmp_path, state):
    half = {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
    save_file(half, tmp_path / "w.safetensors")
    model = Net()
    load_weights(model, tmp_path / "w.safetensors")
    assert model.conv.weight.dtype == torch.float32
    require_loaded(model, half)


def test_an_absent_batch_counter_does_no_harm(tmp_path, state):
    del state["norm.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    model = Net()
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.norm.running_var, state["norm.running_var"])


@pytest.mark.parametrize("form", ["torch.save", "raw pickle"])
def test_a_malicious_pickle_does_not_run(tmp_path, form):
    trace, path = tmp_path / "trace", tmp_path / "w.pt"
    payload = {"conv.weight": Touch(trace)}
    if form == "torch.save":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=4))
    with pytest.raises(IncompatibleArtifact) as caught:
        load_weights(Net(), path)
    assert not trace.exists()
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        f"{path} holds Python objects, which could run code when they are loaded. "
        "Save only the tensors: torch.save(model.state_dict(), ...), or safetensors."
    )
    torch.load(path, weights_only=False) if form == "torch.save" else pickle.loads(
        path.read_bytes()
    )
    assert trace.exists(), "the payload would have run"


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(IncompatibleArtifact, match="holds Python objects"):
        load_weights(Net(), tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(IncompatibleArtifact, match="holds Python objects"):
        load_weights(Net(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_damaged_files_are_named(tmp_path, state, name, damage):
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "empty": b"", "foreign": b"GIF89a" * 9}[damage]
    )
    with pytest.raises(IncompatibleArtifact) as caught:
        load_weights(Net(), path)
    assert str(caught.value) == (
        f"{path} is damaged or truncated, or is no weights file at all. "
        "Save it again, or fetch the file again if it was copied."
    )


def test_absent_and_foreign_files(tmp_path):
    with pytest.raises(UsageError, match=r"There is no weights file .*w\.pt\. Check the path\."):
        load_weights(Net(), tmp_path / "w.pt")
    (tmp_path / "w.h5").touch()
    with pytest.raises(UsageError, match=r"is no weights file: its suffix is '\.h5'\. Give a"):
        load_weights(Net(), tmp_path / "w.h5")


def test_missing_and_unexpected_tensors_are_named(tmp_path, state):
    del state["conv.weight"]
    extra = {f"head.{i}": torch.ones(1) for i in range(5)}
    torch.save({**state, **extra}, tmp_path / "w.pt")
    with pytest.raises(IncompatibleArtifact) as caught:
        load_weights(Net(), tmp_path / "w.pt")
    assert caught.value.message == (
        f"{tmp_path / 'w.pt'} does not fit the model: it lacks 1 tensors (conv.weight) and has 5 "
        "too many (head.0, head.1, head.2, and 2 more)."
    )
    assert caught.value.remedy == "Build the network with the options it was trained with."


def test_another_shape_is_named_and_nothing_is_loaded(tmp_path, state):
    state["norm.weight"] = torch.ones(8)
    torch.save(state, tmp_path / "w.pt")
    model = Net()
    before = model.conv.weight.clone()
    with pytest.raises(
        IncompatibleArtifact, match=r"norm\.weight has the shape \(8,\) in the file and \(4,\) in"
    ):
        load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.conv.weight, before)


def test_integers_are_not_taken_for_weights(tmp_path, state):
    state["norm.weight"] = torch.ones(4, dtype=torch.int8)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        IncompatibleArtifact, match=r"is torch\.int8 in the file and torch\.float32 in"
    ):
        load_weights(Net(), tmp_path / "w.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": 3}, {"state_dict": {"a": "b"}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(IncompatibleArtifact, match=r"holds no (plain )?state dict"):
        load_weights(Net(), tmp_path / "w.pt")


def pag(width=4, **options):
    return PAGResNet((1, 1, 1, 2), width, {"depth": 1}, **options)


def test_a_dense_twin_leaves_the_gates_untrained_and_says_so(tmp_path):
    dense = pag(gated=False)
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    gated = pag()
    untrained = load_weights(gated, tmp_path / "dense.safetensors")
    assert set(untrained) == {name for name in gated.state_dict() if ".gate." in name}
    assert torch.equal(gated.stem[0].weight, dense.stem[0].weight)
    branch = gated.get_submodule("res5_1.conv2.branches.dilation8")
    assert torch.equal(branch.weight, dense.get_submodule("res5_1.conv2").weight)


def test_a_dense_twin_of_another_network_is_refused(tmp_path):
    torch.save(pag(8, gated=False).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(IncompatibleArtifact, match=r"stem\.0\.weight has the shape \(8, 3, 7, 7\)"):
        load_weights(pag(), tmp_path / "wide.pt")
    state = pag(gated=False).state_dict()
    state["heads.flow.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "more.pt")
    with pytest.raises(IncompatibleArtifact, match=r"has 1 too many \(heads\.flow\.weight\)"):
        load_weights(pag(), tmp_path / "more.pt")
    del state["heads.flow.weight"], state["stem.0.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(IncompatibleArtifact, match=r"lacks 1 tensors \(stem\.0\.weight\)"):
        load_weights(pag(), tmp_path / "less.pt")
