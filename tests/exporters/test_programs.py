"""Nothing that stands in a .pt2 file runs when it is loaded, whatever PyTorch would do with it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.exporters.programs import load_program


class Net(nn.Module):
    """Sizes that are computed, a parameter, a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.conv(image) * scale
        return {"the output": y.reshape(y.shape[0], 4, -1), "mask": (y > 0).float()}


INPUTS = torch.rand(2, 3, 9, 12), torch.rand(1)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """A sound program with dynamic sizes."""
    path, dynamic = tmp_path_factory.mktemp("program") / "net.pt2", torch.export.Dim.DYNAMIC
    axes = ({0: dynamic, 2: dynamic, 3: dynamic}, None)
    torch.export.save(torch.export.export(Net().eval(), INPUTS, dynamic_shapes=axes), path)
    return path


def changed(program: Path, path: Path, change) -> Path:
    """A copy of a program whose graph was edited."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry.endswith("models/model.json"):
                graph = json.loads(content)
                change(graph)
                content = json.dumps(graph).encode()
            new.writestr(entry, content)
    return path


def each(part, key):
    """Every dictionary of a graph that has a key."""
    if isinstance(part, dict):
        if key in part:
            yield part
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from each(inner, key)


def test_a_sound_program_is_what_it_was(program):
    loaded = load_program(program).module()
    for size in ((2, 3, 9, 12), (3, 3, 14, 11)):
        x = torch.rand(size)
        wanted, found = torch.export.load(program).module()(x, INPUTS[1]), loaded(x, INPUTS[1])
        assert list(found) == ["the output", "mask"]
        for name, value in wanted.items():
            assert torch.equal(found[name], value)
    stacks = [node.meta.get("nn_module_stack") for node in load_program(program).graph.nodes]
    assert any("conv" in str(stack) for stack in stacks), "nodes are named after their modules"


CODE = "__import__('pathlib').Path({path!r}).touch()"


def sizes(graph, code):
    for part in each(graph, "expr_str"):
        part["expr_str"] = f"{code} or 1"


def guards(graph, code):
    graph["guards_code"] = [f"{code} is None"]


def operators(graph, code):
    node = graph["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.system"


def subclasses(graph, code):
    next(each(graph, "expr_str"))["expr_str"] = "().__class__.__base__.__subclasses__()"


def names(graph, code):
    for part in each(graph, "name"):
        if part["name"] == "image":
            part["name"] = f"image={code}"


def trees(graph, code):
    for part in each(graph, "in_spec"):
        part["in_spec"] = part["in_spec"].replace('"[]"', f'"[\\"a\':{code},\'\\"]"')


def enumerations(graph, code):
    for part in each(graph, "out_spec"):
        entry = '[{\\"__enum__\\": true, \\"fqn\\": \\"antigravity:a\\", \\"name\\": \\"b\\"}]'
        part["out_spec"] = entry


def files(graph, code):
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def towers(graph, code):
    next(each(graph, "expr_str"))["expr_str"] = "9**9**9**9"


def powers(graph, code):
    next(each(graph, "expr_str"))["expr_str"] = "Pow(Pow(Integer(9), Integer(8)), Integer(8))"


def attributes(graph, code):
    target = "torch.ops.aten.__class__.__getattr__"
    graph["graph_module"]["graph"]["nodes"][0]["target"] = target


def savers(graph, code):
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.save.default"


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (towers, "expr_str '9**9**9**9'"),
        (powers, "expr_str 'Pow(Pow("),
        (attributes, "target 'torch.ops.aten.__class__"),
        (savers, "target 'torch.ops.aten.save.default'"),
        (sizes, "expr_str \"__import__('pathlib')"),
        (operators, "target 'torch.os.system'"),
        (subclasses, "expr_str '().__class__"),
        (names, 'name "image=__import__'),
        (trees, "in_spec "),
        (enumerations, "out_spec "),
        (files, "target 'torch.ops.aten.from_file.default'"),
    ],
)
def test_text_that_could_become_code_is_refused(program, tmp_path, change, shown):
    code = CODE.format(path=str(tmp_path / "trace"))
    path = changed(program, tmp_path / "evil.pt2", lambda graph: change(graph, code))
    with pytest.raises(IncompatibleArtifact) as caught:
        load_program(path)
    assert f"more than names, sizes and operators ({shown}" in str(caught.value)
    assert not (tmp_path / "trace").exists()


def test_guards_are_dropped_and_not_run(program, tmp_path):
    code = CODE.format(path=str(tmp_path / "trace"))
    path = changed(program, tmp_path / "evil.pt2", lambda graph: guards(graph, code))
    load_program(path).module()(*INPUTS)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("change", [sizes, guards])
def test_the_attack_is_real(program, tmp_path, change):
    """Without us PyTorch runs the same file."""
    code = CODE.format(path=str(tmp_path / "trace"))
    path = changed(program, tmp_path / "evil.pt2", lambda graph: change(graph, code))
    try:
        torch.export.load(path).module()(*INPUTS)
    except Exception:  # it may notice afterwards
        pass
    assert (tmp_path / "trace").exists()


def test_an_entry_that_is_there_twice_is_refused(program, tmp_path):
    path = tmp_path / "two.pt2"
    path.write_bytes(program.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/models/Model.json", "{}")  # PyTorch's reader ignores case
    with pytest.raises(IncompatibleArtifact, match=r"holds more than .*\(models/\wodel\.json\)"):
        load_program(path)


def test_an_entry_that_unpacks_to_a_multiple_is_refused(program, tmp_path):
    path = tmp_path / "bomb.pt2"
    path.write_bytes(program.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data/weights/weight_9", bytes(2**26 + 1))
    with pytest.raises(IncompatibleArtifact, match="unpacks to a multiple of its size"):
        load_program(path)


def test_files_of_the_user_are_left_out(program, tmp_path):
    path = tmp_path / "extra.pt2"
    path.write_bytes(program.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/extra/notes", bytes(2**27))
    load_program(path)
