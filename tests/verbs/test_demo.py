"""The demo takes the whole road and leaves everything that it says it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pagdeploy.bundle import open_bundle
from pagdeploy.examples.rooms.layout import CLASSES
from pagdeploy.verbs import demo as verb
from pagdeploy.verbs.demo import DemoResult, DemoRow
from pagdeploy.verbs.pictures import class_colours
from tests.cli.test_commands import call, refused

FILES = ["model.onnx", "model.pagbundle", "table.json", "sheet.png", "report.html"]


@pytest.fixture(scope="module")
def travelled(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder that a small demo wrote, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "IMAGE_SIZE", (64, 96))
        patch.setattr(verb, "PHOTOS", ("coffee",))
        patch.setattr(verb, "SCENES", (900_001,))
        patch.setattr(verb, "_ROUNDS", 2)
        code, out, err = call("demo", "-o", folder, "--json")
    assert code == 0 and not err, err
    return folder, json.loads(out)


def test_the_demo_verifies_every_image(travelled):
    folder, answer = travelled
    assert answer["reason"] is None and answer["image_size"] == [64, 96]
    assert [row["image"] for row in answer["rows"]] == ["coffee", "scene 900001"]
    assert len(answer["gates"]) == 8
    for row in answer["rows"]:
        assert 0 < row["density"] < 1 and row["max_error"] < 1e-4
        assert row["ceiling"] > 1 and row["dense_ms"] > 0 and row["engine_ms"] > 0
        assert row["ratio"] == pytest.approx(row["dense_ms"] / row["engine_ms"])
        assert len(row["gate_density"]) == 8
    assert answer["files"] == [str(folder / name) for name in FILES]


def test_the_demo_leaves_what_it_says_it_wrote(travelled):
    folder, answer = travelled
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    table = json.loads((folder / "table.json").read_text())
    assert table["failure"] is None and table["rows"] == answer["rows"]
    assert table["lowering"] == answer["lowering"]
    with Image.open(folder / "sheet.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG" and sheet.width > 1000 and sheet.height > 500
        colours = sheet.convert("RGB").getcolors(sheet.width * sheet.height) or []
    assert len(colours) > 500
    legend = {tuple(colour) for colour in class_colours(len(CLASSES)).tolist()}
    assert legend <= {colour for _, colour in colours}
    manifest = open_bundle(folder / "model.pagbundle").manifest
    assert manifest.inputs[0].sample_shape == [1, 3, 64, 96]
    assert manifest.engine.lowering == answer["lowering"]


ROW = DemoRow("coffee", 0.5, 2.0, 4.0, 0.5, 1.9, 3, 1e-6, [0.5])


@pytest.mark.parametrize("reason", [None, "coffee: Output 'y' differs by 1."])
def test_the_demo_ends_with_a_verdict(reason, monkeypatch, tmp_path):
    result = DemoResult("dense", (64, 96), ["g"], [ROW, ROW], [tmp_path / "sheet.png"], reason)
    monkeypatch.setattr(verb, "demo", lambda output, *, progress: result)
    code, out, err = call("demo", "-o", tmp_path)
    assert "The engine (dense lowering) was chosen by timing; a ratio below 1 means that" in out
    assert f"wrote {tmp_path}/sheet.png" in out
    verdict = "all 2 images verified; flips are pixels where the reference itself was undecided"
    if reason is None:
        assert code == 0 and verdict in out and not err
    else:
        assert code == 1 and verdict not in out and err == f"failed: {reason}\n"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("theirs")
    refused(2, f"The folder {path} cannot be made (File exists). Write", "demo", "-o", path)
    assert path.read_text() == "theirs"


def test_a_photo_that_is_too_high_keeps_its_top(monkeypatch):
    import skimage.data

    monkeypatch.setattr(verb, "PHOTOS", ("astronaut",))
    monkeypatch.setattr(verb, "IMAGE_SIZE", (256, 512))
    ((_, image),) = verb._photos()
    assert image.shape == (1, 3, 256, 512)
    top = skimage.data.astronaut()[:256].transpose(2, 0, 1)[None] / 255
    assert abs(image - top).max() < 1e-6


def test_the_page_holds_the_rows_and_the_sheet(tmp_path):
    from pagdeploy.report.page import render
    from pagdeploy.verbs.demo import demo_page

    result = DemoResult("dense", (64, 96), ["g"], [ROW, ROW], [tmp_path / "sheet.png"], None)
    text = render(demo_page(result, b"picture"))
    assert "PASSED" in text and text.count(f"<td>{ROW.image}</td>") == 4
    assert "data:image/png;base64,cGljdHVyZQ==" in text and "://" not in text
