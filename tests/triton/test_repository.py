"""What lies in a model repository, what is refused, and what is left alone."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pagdeploy.bundle import open_bundle, write_arrays
from pagdeploy.verbs.triton import bundle_triton
from tests.cli.test_commands import call
from tests.triton.conftest import AUTOREG, as_plan, reseal, text_of

OURS = "plugins/libpagdeploy_plugins_trt10.so"
OPENED = "autoreg_libpagdeploy_plugins_trt10.so"


def files_in(folder: Path) -> list[str]:
    """Every file below the folder, by its path there."""
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())


def arguments_of(command: str) -> list[str]:
    """What the server would be given, after the shell has read the command."""
    script = command.replace("tritonserver", "printf '%s\\n'")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_model_of_onnxruntime(bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    result = bundle_triton(bundle, models)
    assert (result.path, result.name, result.max_batch_size) == (models / "m", "m", 4)
    assert files_in(models) == [
        "m/1/model.onnx", "m/bundle.json", "m/config.pbtxt", "m/warmup/image", "serve.md",
    ]  # fmt: skip
    assert (models / "m/1/model.onnx").read_bytes() == (bundle / "engine.onnx").read_bytes()
    sample = open_bundle(bundle).arrays("sample/inputs.npz")["image"]
    raw = np.fromfile(models / "m/warmup/image", "<f4")
    np.testing.assert_array_equal(raw.reshape(sample.shape), sample)
    assert json.loads((models / "m/bundle.json").read_text())["digest"] == text_of(bundle).digest
    assert arguments_of(result.command) == [f"--model-repository={models}"]
    text = (models / "serve.md").read_text()
    assert all(f"    {line}\n" in text for line in result.command.splitlines())
    assert "curl -i localhost:8000/v2/models/m/ready" in text
    assert not [p for p in models.iterdir() if p.name.startswith(".")]
    open_bundle(bundle)  # it is still what it was


def test_one_image_of_a_batch_is_the_warm_up(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batch = {"image": rng.standard_normal((3, 3, 20, 24)).astype(">f4")}
    write_arrays(bundle / "sample/inputs.npz", batch)
    outputs = open_outputs(bundle)
    write_arrays(bundle / "sample/outputs.npz", {k: np.repeat(v, 3, 0) for k, v in outputs.items()})
    inputs = [t.model_copy(update={"sample_shape": [3, 3, 20, 24]}) for t in text_of(bundle).inputs]
    result = bundle_triton(reseal(bundle, inputs=inputs), tmp_path / "models")
    assert result.max_batch_size == 4
    data = (result.path / "warmup/image").read_bytes()
    assert data == batch["image"][:1].astype("<f4").tobytes()


def test_a_gate_that_decides_for_a_whole_batch_stops_batching(bundle: Path, tmp_path: Path) -> None:
    outputs = {k: np.repeat(v, 3, 0) for k, v in open_outputs(bundle).items()}
    write_arrays(bundle / "sample/outputs.npz", {**outputs, "s2": outputs["s2"][:1]})
    batch = {"image": np.zeros((3, 3, 20, 24), np.float32)}
    write_arrays(bundle / "sample/inputs.npz", batch)
    inputs = [t.model_copy(update={"sample_shape": [3, 3, 20, 24]}) for t in text_of(bundle).inputs]
    result = bundle_triton(reseal(bundle, inputs=inputs), tmp_path / "models")
    assert result.max_batch_size == 0
    reason = "the gate 'node s2' decides once for a whole batch."
    assert result.notes == [f"Requests are not joined to batches: {reason}"]
    assert (result.path / "warmup/image").stat().st_size == batch["image"].nbytes


def open_outputs(bundle: Path) -> dict[str, np.ndarray]:
    """The reference's answer to the sample."""
    with np.load(bundle / "sample/outputs.npz") as archive:
        return dict(archive)


def test_a_plan_brings_its_plugins_and_what_registers_them(
    bundle: Path, tmp_path: Path, autoreg: Path
) -> None:
    models = tmp_path / "my models"
    plan = as_plan(bundle, plugins=[OURS, "plugins/theirs.so"], compute_capabilities=["8.9"])
    result = bundle_triton(plan, models, name="gated")
    assert files_in(models / "gated") == [
        "1/model.plan", "bundle.json", "config.pbtxt", f"plugins/{OPENED}",
        "plugins/autoreg_theirs.so", OURS, "plugins/theirs.so", "warmup/image",
    ]  # fmt: skip
    for file in ("1/model.plan", OURS, "plugins/theirs.so"):
        source = "engine.plan" if file == "1/model.plan" else file
        assert (models / "gated" / file).read_bytes() == (plan / source).read_bytes()
    for file in (OPENED, "autoreg_theirs.so"):
        copy = models / "gated/plugins" / file
        assert copy.read_bytes() == (autoreg / AUTOREG).read_bytes()
    folder = models / "gated/plugins"
    opened = f"{folder}/{OPENED};{folder}/autoreg_theirs.so"
    assert arguments_of(result.command) == [
        f"--model-repository={models}",
        f"--backend-config=tensorrt,plugins={opened}",
    ]
    text = (models / "serve.md").read_text()
    assert "needs a server with TensorRT 10.16.1.11, exactly" in text
    assert "GPUs of compute capability 8.9 (hardware compatibility: none)" in text


def test_a_plan_that_holds_its_plugins_needs_no_library(bundle: Path, tmp_path: Path) -> None:
    plan = as_plan(bundle, plugins=[OURS], embeds_plugins=True, version_compatible=True)
    result = bundle_triton(plan, tmp_path / "models")
    assert not (result.path / "plugins").exists()
    assert arguments_of(result.command)[1:] == ["--backend-config=tensorrt,version-compatible=true"]
    text = (tmp_path / "models/serve.md").read_text()
    assert "needs a server with TensorRT 10.16.1.11 or later" in text
    assert "load only those you trust" in text


def test_models_live_side_by_side(bundle: Path, tmp_path: Path, autoreg: Path) -> None:
    models = tmp_path / "models"
    (models / "theirs/1").mkdir(parents=True)
    (models / "theirs/config.pbtxt").write_text("kept")
    (models / "notes.txt").write_text("kept")
    bundle_triton(bundle, models, name="a")
    before = (models / "a/config.pbtxt").read_bytes()
    plan = as_plan(bundle, plugins=[OURS])
    bundle_triton(plan, models, name="b")
    (autoreg / AUTOREG).write_bytes(b"\x7fELF newer")
    (plan / OURS).write_bytes(b"\x7fELF newer")
    result = bundle_triton(reseal(plan), models, name="c")
    assert result.notes == [
        "The models 'b' and 'c' carry different builds of libpagdeploy_plugins_trt10.so; a server"
        " loads that of 'b' for both."
    ]
    assert arguments_of(result.command)[1:] == [
        f"--backend-config=tensorrt,plugins={models}/b/plugins/{OPENED}"
    ]
    (models / "c/1/left over").write_text("")
    assert not bundle_triton(plan, models, name="b").notes
    result = bundle_triton(plan, models, name="c", instances=2)
    assert not (models / "c/1/left over").exists() and not result.notes
    assert "count: 2" in (models / "c/config.pbtxt").read_text()
    assert (models / "a/config.pbtxt").read_bytes() == before
    assert (models / "theirs/config.pbtxt").read_text() == "kept"
    assert (models / "notes.txt").read_text() == "kept"
    text = (models / "serve.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## a",
        "## b",
        "## c",
    ]
    assert sorted(p.name for p in models.iterdir()) == [
        "a", "b", "c", "notes.txt", "serve.md", "theirs",
    ]  # fmt: skip


def test_a_folder_renamed_by_hand_cannot_break_the_command(
    bundle: Path, tmp_path: Path, autoreg: Path
) -> None:
    models = tmp_path / "models"
    bundle_triton(as_plan(bundle, plugins=[OURS]), models, name="a")
    (models / "a").rename(models / "$(touch broken)")
    result = bundle_triton(bundle, models, name="b")
    assert "broken" not in result.command + (models / "serve.md").read_text()


def test_a_model_of_another_format_is_replaced_but_not_described(
    bundle: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    bundle_triton(bundle, models, name="old")
    (models / "old/bundle.json").write_text('{"format": "pagbundle", "format_version": 1}')
    bundle_triton(bundle, models, name="new")
    assert "## old" not in (models / "serve.md").read_text()
    bundle_triton(bundle, models, name="old")
    assert "## old" in (models / "serve.md").read_text()


@pytest.mark.parametrize(
    ("folder", "name"), [("my net (v2).pagbundle", "my_net__v2_"), ("..ü.pagbundle", "_"),
                         ("net.v2", "net"), ("NUL.pagbundle", "_NUL")],
)  # fmt: skip
def test_a_bundle_s_name_is_made_safe(folder: str, name: str, bundle: Path, tmp_path: Path) -> None:
    renamed = bundle.rename(bundle.with_name(folder))
    assert bundle_triton(renamed, tmp_path / "models").name == name


def test_a_plan_for_pairs_only_does_not_batch(bundle: Path, tmp_path: Path) -> None:
    bounds = {"min": [2, 3, 8, 8], "opt": [2, 3, 20, 24], "max": [8, 3, 64, 64]}
    result = bundle_triton(as_plan(bundle, profiles=[{"image": bounds}]), tmp_path / "models")
    assert result.max_batch_size == 0
    assert "no profile of its plan takes a batch of one" in result.notes[0]


def test_the_command_speaks_json_and_shows_the_server_s_command(
    bundle: Path, tmp_path: Path
) -> None:
    models = tmp_path / "it's mine"
    code, out, err = call("bundle", "triton", bundle, "-o", models, "-q")
    assert code == 0 and not err
    shown = out.partition("start the server with\n")[2]
    assert arguments_of(shown) == [f"--model-repository={models}"]
    assert shown.splitlines()[0] == f"MODELS={shlex.quote(str(models))}"
    code, out, err = call("bundle", "triton", bundle, "-o", models, "--json")
    answer = json.loads(out)
    assert code == 0 and not err
    assert answer["name"] == "m" and answer["max_batch_size"] == 4 and answer["command"] == shown
    code, out, err = call("bundle", "triton", bundle, "--json")
    assert code == 2 and "Missing option '--output' / '-o'" in json.loads(out)["error"] and not err
    code, _, err = call("bundle", "triton", bundle, "-o", models, "--instances", 0)
    assert code == 2 and "--instances" in err


def test_a_full_disk_leaves_the_old_model(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    bundle_triton(bundle, models)
    before = {file: (models / file).read_bytes() for file in files_in(models)}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pagdeploy.verbs.triton.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        bundle_triton(bundle, models, instances=2)
    assert {file: (models / file).read_bytes() for file in files_in(models)} == before
