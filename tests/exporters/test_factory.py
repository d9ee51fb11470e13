"""What a model's name on the command line leads to, and how a wrong one is refused."""

from __future__ import annotations

import sys
import zipfile

import pytest
import torch
from torch import nn

from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact, UsageError
from pagdeploy.exporters.factory import load_factory

SOURCE = """
import torch
from {sibling} import width

def factory():
    from {sibling} import width as late
    return torch.nn.Conv2d(3, late, 1)

module = torch.nn.ReLU()
number = 3

def wrong():
    return "a string"

def broken():
    raise KeyError("no such backbone")

class Holder:
    make = staticmethod(factory)
"""


@pytest.fixture
def source(tmp_path):
    """A model file with a module of its own beside it; imported names are taken back."""
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "sibling_of_net.py").write_text("width = 5\n")
    (tmp_path / "net_file.py").write_text(SOURCE.format(sibling="sibling_of_net"))
    yield tmp_path / "net_file.py"
    assert sys.path == path, "the folder of the file stayed importable"
    for name in set(sys.modules) - before:
        if name.startswith(("sibling_of_net", "net_file")):
            del sys.modules[name]


def test_a_factory_in_a_file(source):
    model = load_factory(f"{source}:factory")
    assert isinstance(model, nn.Conv2d)
    assert model.out_channels == 5
    assert load_factory(f"{source}:Holder.make").out_channels == 5


def test_a_module_in_a_file(source):
    assert isinstance(load_factory(f"{source}:module"), nn.ReLU)


def test_a_factory_in_a_package():
    assert isinstance(load_factory("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", r"net_file\.py has no attribute 'absent'\. Check the name of the factory\."),
        ("number", r"net_file\.py:number is an object of type int, not a function\. Name a"),
        ("wrong", r"net_file\.py:wrong returned an object of type str, not a torch\.nn\.Module\."),
        ("broken", r"net_file\.py:broken raised KeyError: 'no such backbone'\. Mend it"),
    ],
)
def test_wrong_factories_are_named(source, name, message):
    with pytest.raises(UsageError, match=message):
        load_factory(f"{source}:{name}")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*net\.py\. Check the path\."):
        load_factory(f"{tmp_path / 'net.py'}:factory")
    with pytest.raises(UsageError, match=r"There is no Python module 'no_such_package'\."):
        load_factory("no_such_package.models:factory")
    with pytest.raises(UsageError, match=r"'model\.onnx' does not name a model\. Write file\.py"):
        load_factory("model.onnx")


def test_a_file_that_does_not_load_is_named(source):
    source.write_text("raise RuntimeError('no weights')\n")
    with pytest.raises(UsageError, match=r"net_file\.py raised RuntimeError: no weights\."):
        load_factory(f"{source}:factory")
    source.write_text("import no_such_package.layers\n")
    with pytest.raises(EnvironmentProblem, match="imports 'no_such_package', which is not inst"):
        load_factory(f"{source}:factory")
    assert "net_file" not in sys.modules


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(nn.ReLU().eval(), (torch.rand(2, 3),)), path)
    return path


def with_entry(program, path, name, content):
    """A copy of a program with one entry of its archive replaced or added."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for entry in old.namelist():
            if entry != f"{root}/{name}":
                new.writestr(entry, old.read(entry))
        new.writestr(f"{root}/{name}", content)
    return path


def test_a_program(program):
    loaded = load_factory(str(program))
    assert isinstance(loaded, torch.export.ExportedProgram)
    assert torch.equal(loaded.module()(-torch.ones(2, 3)), torch.zeros(2, 3))


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_in_a_program_do_not_run(program, tmp_path):
    torch.save(Touch(tmp_path / "trace"), tmp_path / "evil.bin")
    evil = (tmp_path / "evil.bin").read_bytes()
    path = with_entry(program, tmp_path / "a.pt2", "data/sample_inputs/model.pt", evil)
    with pytest.raises(IncompatibleArtifact) as caught:
        load_factory(str(path))
    assert str(caught.value) == (
        f"{path} holds more than a program and its tensors (data/sample_inputs/model.pt), which "
        "could run when it is loaded. Name the model by its factory instead: file.py:factory."
    )
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/constants/opaque_obj_0", b""),
        (
            "data/weights/model_weights_config.json",
            b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}',
        ),
        ("data/weights/model.pt", b""),
        ("data/aotinductor/model/net.so", b""),
    ],
)
def test_code_in_a_program_is_refused(program, tmp_path, name, content):
    path = with_entry(program, tmp_path / "a.pt2", name, content)
    with pytest.raises(IncompatibleArtifact, match=rf"than a program and its tensors \({name}\)"):
        load_factory(str(path))


def test_damaged_programs_are_named(program, tmp_path):
    with pytest.raises(UsageError, match=r"There is no program .*a\.pt2\."):
        load_factory(str(tmp_path / "a.pt2"))
    (tmp_path / "a.pt2").write_bytes(program.read_bytes()[:500])
    with pytest.raises(IncompatibleArtifact, match=r"is no program that this PyTorch \(.*\) can"):
        load_factory(str(tmp_path / "a.pt2"))
