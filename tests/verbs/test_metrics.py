"""Scores of a bundle on a folder of data: the folder, the tasks, the sizes, and the verdict."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper
from PIL import Image

from pagdeploy.bundle import open_bundle, seal
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.graph.read import read_model
from pagdeploy.verbs.build import build
from pagdeploy.verbs.ground_truth import open_data
from pagdeploy.verbs.metrics import score_tasks
from pagdeploy.verbs.tasks import Settings
from tests.cli.test_commands import call, refused

SIZE = (12, 16)
# Everything is in the image: red is the depth, green the class, blue the boundary.
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
tasks (float[n, 3, h, w] image, float shift) => (float[n, 2, h, w] segmentation,
    float[n, 1, h, w] edges, float[n, 1, h, w] depth, float[n, 3, h, w] normals)
{
    segmentation = Conv (image, classes, thresholds)
    edges = Conv (image, blue)
    red = Conv (image, red_only)
    depth = Add (red, shift)
    normals = Conv (image, upright, up)
}"""


def model():
    proto = onnx.parser.parse_model(MODEL)
    weights = {
        "classes": [[0, 0, 0], [0, 1, 0]], "blue": [[0, 0, 1]], "red_only": [[1, 0, 0]],
        "upright": np.zeros((3, 3)),
    }  # fmt: skip
    for name, rows in weights.items():
        array = np.array(rows, np.float32)[:, :, None, None]
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, row in {"thresholds": [0.5, 0], "up": [0, -2, 0]}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(row, np.float32), name))
    return proto


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "m.onnx").write_bytes(model().SerializeToString())
    build(folder / "m.onnx", folder / "m.pagbundle", shapes={"image": [1, 3, *SIZE]})
    return folder / "m.pagbundle"


@pytest.fixture
def worse(built, tmp_path):
    """The same bundle, whose engine adds a tenth to the depth."""
    path = tmp_path / "worse.pagbundle"
    shutil.copytree(built, path)
    bundle = open_bundle(path)
    engine = read_model(path / "engine.onnx")
    for tensor in engine.graph.initializer:
        if tensor.name == "red_only":
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.1, "red_only")
            )
    (path / "engine.onnx").write_bytes(engine.SerializeToString())
    seal(path, bundle.manifest)
    return path


def scene(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(51, 205, (3, *SIZE)).astype(np.uint8)
    exact = image / np.float32(255)
    truth = {
        "segmentation": (exact[1] > 0.5).astype(np.uint8),
        "boundary": exact[2] >= 0.6,
        "depth": exact[0].astype(np.float32),
        "normals": np.stack([np.zeros(SIZE), -np.ones(SIZE), np.zeros(SIZE)]).astype(np.float32),
    }
    return image, truth


def as_archives(folder, count=3):
    folder.mkdir()
    for number in range(count):
        image, truth = scene(number)
        np.savez(folder / f"{number}.npz", image=image, **truth)
    return folder


def as_pictures(folder, count=3):
    for kind in ("images", "segmentation", "boundary", "depth", "normals"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        image, truth = scene(number)
        millimetres = np.rint(truth["depth"] * 1000).astype(np.uint16)
        vectors = np.rint((truth["normals"].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        for kind, array in (
            ("images", image.transpose(1, 2, 0)),
            ("segmentation", truth["segmentation"]),
            ("boundary", truth["boundary"].astype(np.uint8) * 255),
            ("depth", millimetres),
            ("normals", vectors),
        ):
            Image.fromarray(array).save(folder / kind / f"{number}.png")
    return folder


def scores_of(report):
    return {(row.task, row.metric): row for row in report.scores}


EDGES = Settings(
    ("segmentation=segmentation", "boundary=edges:probability", "depth=depth", "normals=normals")
)


@pytest.mark.parametrize("lay", [as_archives, as_pictures])
def test_a_perfect_network_scores_fully(built, tmp_path, lay):
    report = score_tasks(built, lay(tmp_path / "data"), EDGES)
    assert report.passed and report.images == 3 and report.tolerance == 0.005
    found = scores_of(report)
    assert found["segmentation", "mIoU"].reference == 1
    assert found["boundary", "ODS F"].reference == 1
    assert found["boundary", "threshold"].reference == pytest.approx(0.6, abs=0.01)
    assert found["depth", "AbsRel"].reference < 0.002 and found["depth", "AbsRel"].better == "lower"
    assert found["normals", "mean angle"].reference < 0.5
    for row in report.scores:
        assert row.difference == row.engine - row.reference and abs(row.difference) < 1e-6


def test_an_engine_that_loses_is_caught(worse, tmp_path):
    data = as_archives(tmp_path / "data")
    report = score_tasks(worse, data, EDGES)
    row = scores_of(report)["depth", "AbsRel"]
    assert row.engine == pytest.approx(0.1, abs=1e-4) and not row.passed and not report.passed
    assert report.reason == (
        f"The engine scores 0.1 in AbsRel of depth, the reference {row.reference:.4g}: it loses"
        " more than 0.005."
    )
    assert score_tasks(worse, data, Settings(("depth=depth",), tolerance=0.11)).passed
    better = score_tasks(worse, data, Settings(("segmentation=segmentation",), tolerance=0))
    assert better.passed, "no other task lost anything"


def test_known_names_are_found_and_the_form_of_a_boundary_is_told(built, tmp_path):
    report = score_tasks(built, as_archives(tmp_path / "data"))
    assert {row.task for row in report.scores} == {"segmentation", "boundary", "depth", "normals"}
    (note,) = report.notes
    assert "'edges' was taken for probability" in note and "--task boundary=edges:" in note
    as_logits = score_tasks(built, tmp_path / "data", Settings(("boundary=edges:logits",)))
    threshold = scores_of(as_logits)["boundary", "threshold"].reference
    assert threshold == pytest.approx(1 / (1 + np.exp(-0.6)), abs=0.011)


def test_answers_are_brought_to_the_size_of_the_truth(built, tmp_path):
    (tmp_path / "data").mkdir()
    image, truth = scene(0)
    double = {"segmentation": np.kron(truth["segmentation"], np.ones((2, 2), np.uint8))}
    np.savez(tmp_path / "data" / "0.npz", image=np.full_like(image, 255), **double)
    report = score_tasks(built, tmp_path / "data")
    share = double["segmentation"].mean()
    assert scores_of(report)["segmentation", "pixel accuracy"].engine == pytest.approx(share)


def test_pictures_are_resized_as_asked_and_other_inputs_given(built, tmp_path):
    data = as_pictures(tmp_path / "data")
    small = score_tasks(built, data, Settings(("depth=depth",)), shapes={"image": [1, 3, 6, 8]})
    assert scores_of(small)["depth", "AbsRel"].reference > 0.05
    shifted = {"shift": np.array(1, np.float32)}
    far = score_tasks(built, data, Settings(("depth=depth",)), inputs=shifted)
    assert scores_of(far)["depth", "AbsRel"].reference > 1
    with pytest.raises(UsageError, match="comes from the folder"):
        score_tasks(built, data, inputs={"image": np.zeros(1, np.float32)})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Settings(("colour=edges",)), "cannot be read. Write TASK=OUTPUT"),
        (Settings(("depth=none",)), "no output 'none'. Its outputs are segmentation, edges"),
        (Settings(("depth=normals",)), "float32 1x3x12x16, which does not answer the task depth"),
        (Settings(tolerance=2), "tolerance cannot be right"),
        (Settings(boundary_tolerance=1), "boundary tolerance cannot be right"),
        (Settings(("boundary=normals",)), "does not answer the task boundary"),
    ],
)
def test_settings_that_cannot_be_right(built, tmp_path, settings, text):
    with pytest.raises(UsageError, match=text):
        score_tasks(built, as_archives(tmp_path / "data", 1), settings)


def test_labels_that_no_output_has(built, tmp_path):
    data = as_archives(tmp_path / "data", 1)
    image, truth = scene(0)
    truth["segmentation"][0, 0] = 9
    np.savez(data / "0.npz", image=image, segmentation=truth["segmentation"])
    with pytest.raises(
        UsageError, match=r"the truth has a class 9, and there are 2\..*--ignore-label"
    ):
        score_tasks(built, data)
    assert score_tasks(built, data, Settings(ignored=9)).passed


def test_no_truth_at_all_is_no_pass(built, tmp_path):
    (tmp_path / "data").mkdir()
    image, _ = scene(0)
    np.savez(tmp_path / "data/0.npz", image=image, depth=np.zeros(SIZE, np.float32))
    report = score_tasks(built, tmp_path / "data")
    assert report.reason == "No pixel has a truth that the score 'AbsRel' of depth can use."


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="There is no folder"):
        open_data(tmp_path / "no")
    with pytest.raises(UsageError, match=r"has no images\. Put them into"):
        open_data(tmp_path)
    data = as_pictures(tmp_path / "data")
    (data / "depth" / "1.png").unlink()
    with pytest.raises(UsageError, match="image '1' has no truth for the task depth"):
        open_data(data)
    for kind in ("segmentation", "boundary", "depth", "normals"):
        shutil.rmtree(data / kind)
    with pytest.raises(UsageError, match="has images and no truths"):
        open_data(data)
    np.savez(tmp_path / "x.npz", y=np.zeros(3))
    with pytest.raises(UsageError, match="has no array 'image'"):
        open_data(tmp_path)


def test_files_that_are_damaged_or_of_another_kind(tmp_path):
    data = as_pictures(tmp_path / "data", 1)
    for kind, content, text in (
        ("depth", np.zeros(SIZE, np.uint8), "picture of mode L, which holds no depth"),
        ("segmentation", np.zeros((*SIZE, 3), np.uint8), "mode RGB, which holds no segmentation"),
    ):
        Image.fromarray(content).save(data / kind / "0.png")
        with pytest.raises(IncompatibleArtifact, match=text):
            next(open_data(data).examples([kind]))
    (data / "boundary/0.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(IncompatibleArtifact, match="not an image, or it is damaged"):
        next(open_data(data).examples(["boundary"]))
    np.save(tmp_path / "bad.npy", np.array([object()]), allow_pickle=True)
    shutil.move(tmp_path / "bad.npy", data / "normals/0.npy")
    (data / "normals/0.png").unlink()
    with pytest.raises(IncompatibleArtifact, match=r"not a \.npy file of numbers"):
        next(open_data(data).examples(["normals"]))


def test_the_command_prints_a_table_and_fails_with_1(built, worse, tmp_path):
    data = as_archives(tmp_path / "data")
    code, out, err = call("verify", built, "--data", data, "--task", "boundary=edges:probability")
    assert code == 0, err
    assert "Scores on 3 images" in out and "ODS F" in out and "loses at most 0.5 %" in out
    assert "[3/3] score 2" in err
    code, out, _ = call("verify", worse, "--data", data, "--json")
    answer = json.loads(out)
    assert code == 1 and answer["passed"] is False and "AbsRel" in answer["reason"]
    assert call("verify", worse, "--data", data, "--max-loss", "50", "-q")[0] == 0
    refused(2, "belong to scores. Give --data", "verify", built, "--task", "depth=depth")
    refused(2, "Run verify twice", "verify", built, "--data", data, "--html", tmp_path / "r.html")
    refused(2, "--data belongs to a bundle", "verify", built / "model.onnx", "--data", data)
