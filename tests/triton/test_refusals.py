"""What the command refuses to write, and that nothing is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.manifest import PlanInfo
from pagdeploy.verbs.triton import bundle_triton
from tests.cli.test_commands import call, refused
from tests.triton.conftest import AUTOREG, as_plan, built, reseal, text_of
from tests.triton.test_repository import OURS, files_in


def test_without_the_registering_library_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    text = (
        f"Triton needs {AUTOREG} to register the plan's plugins, and it is not installed. Build it"
    )
    refused(3, text, "bundle", "triton", as_plan(bundle, plugins=[OURS]), "-o", models)
    assert not models.exists()


def test_what_is_not_ours_is_never_touched(bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write = ["bundle", "triton", bundle, "-o", models]
    (models / "m").mkdir(parents=True)
    (models / "m/config.pbtxt").write_text("theirs")
    refused(2, f"{models / 'm'} exists and was not written by pagdeploy. Choose", *write)
    (models / "serve.md").write_text("theirs")
    text = f"{models / 'serve.md'} exists and was not written by pagdeploy. Rename it"
    refused(2, text, *write, "--name", "other")
    assert files_in(models) == ["m/config.pbtxt", "serve.md"]
    assert (models / "serve.md").read_text() == "theirs"


def test_places_that_are_no_repository_are_refused(bundle: Path, tmp_path: Path) -> None:
    write = ["bundle", "triton", bundle, "-o"]
    refused(2, f"lies inside the bundle {bundle}, which is sealed", *write, bundle)
    refused(2, f"lies inside the bundle {bundle}, which is sealed", *write, bundle / "models")
    text = f"The bundle {bundle} lies in {bundle.parent}, where Triton takes it for a model."
    refused(2, text, *write, bundle.parent)
    models = tmp_path / "models"
    bundle_triton(bundle, models)
    text = f"{models / 'm'} is one model of a repository: it has a config.pbtxt. Give the folder"
    refused(2, text, *write, models / "m")
    (tmp_path / "file").write_text("")
    refused(2, f"The folder {tmp_path / 'file'} cannot be made", *write, tmp_path / "file")
    open_bundle(bundle)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "a b", "ü", "a;b", "-x" * 120])
def test_unsafe_names_are_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    arguments = ["bundle", "triton", bundle, "-o", tmp_path / "models", f"--name={name}"]
    refused(2, "too long" if len(name) > 99 else f"The model name {name!r} is not safe", *arguments)
    assert not list(tmp_path.glob("models/*"))


def test_bundles_that_triton_cannot_run_are_refused(bundle: Path, tmp_path: Path) -> None:
    write = ["bundle", "triton", bundle, "-o", tmp_path / "models"]
    manifest = text_of(bundle)
    engine, outputs = manifest.engine, manifest.outputs

    def flavour(name: str, plan: PlanInfo | None) -> None:
        reseal(bundle, engine=engine.model_copy(update={"flavour": name, "plan": plan}))

    flavour("tensorrt-rtx", PlanInfo(profiles=[]))
    text = "Triton has no backend for the engine 'tensorrt-rtx' of this bundle. Build the model"
    refused(4, f"{text} again with --engine tensorrt, onnxruntime-cuda or onnxruntime.", *write)
    reseal(bundle, engine=engine, outputs=[outputs[0].model_copy(update={"dtype": "complex64"})])
    refused(4, "Triton has no type for 'y', which is complex64. Export the model", *write)
    reseal(bundle, outputs=[outputs[0].model_copy(update={"shape": ["n", 0]})])
    refused(4, "onnxruntime backend does not take 'y', whose shape is ['n', 0].", *write)
    as_plan(bundle)
    reseal(bundle, outputs=[outputs[0].model_copy(update={"shape": []})])
    refused(4, "Triton's tensorrt backend does not take 'y', whose shape is [].", *write)
    assert not (tmp_path / "models").exists()


def test_a_library_whose_name_breaks_the_command_line_is_refused(
    bundle: Path, tmp_path: Path, autoreg: Path
) -> None:
    plan = as_plan(bundle, plugins=["plugins/a;b.so"])
    text = "The plugin library 'plugins/a;b.so' has a name that Triton's command line cannot hold."
    refused(4, text, "bundle", "triton", plan, "-o", tmp_path / "models")


def test_a_library_that_the_bundle_lacks_is_refused(
    bundle: Path, tmp_path: Path, autoreg: Path
) -> None:
    plan = as_plan(bundle, plugins=["plugins/a.so"])
    (plan / "plugins/a.so").unlink()
    text = "does not hold the file 'plugins/a.so'"
    refused(4, text, "bundle", "triton", reseal(plan), "-o", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_damaged_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    write = ["bundle", "triton", bundle, "-o", tmp_path / "models"]
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"dense"', '"gather"', 1))
    refused(4, "manifest.json was changed after the build", *write)
    (bundle / "manifest.json").write_text(text[: len(text) // 2])
    refused(4, "is not a manifest that pagdeploy wrote", *write)
    (bundle / "manifest.json").write_text(text)
    (bundle / "engine.onnx").write_bytes(b"")
    refused(4, "'engine.onnx' is not the file that was built", *write)
    refused(2, "is not a bundle", "bundle", "triton", tmp_path / "none", "-o", tmp_path / "models")
    assert not (tmp_path / "models").exists()


FIXED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) { y = Relu (x) }"""


UNRELATED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3] x, float[m, 3] w) => (float[n, 3] y, float[m, 3] z) { y = Relu (x) z = Relu (w) }"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FIXED, "the first axis of 'x' [1, 3, 4, 4] is no batch of any size"),
        (UNRELATED, "the first axes of its inputs and outputs need not be equal"),
    ],
)
def test_models_without_a_batch_say_why(text: str, reason: str, tmp_path: Path) -> None:
    path, models = built(tmp_path, text), tmp_path / "models"
    write = ["bundle", "triton", path, "-o", models]
    refused(2, f"cannot be joined to batches: {reason}. Leave", *write, "--max-batch-size", 2)
    assert not models.exists()
    code, out, err = call(*write)
    assert code == 0 and f"note: Requests are not joined to batches: {reason}.\n" in err
    assert f"{models / 'b'}: the model 'b', no batches; start the server with\n" in out


def test_batches_beyond_the_plan_are_refused(bundle: Path, tmp_path: Path) -> None:
    write = ["bundle", "triton", as_plan(bundle), "-o", tmp_path / "models", "--max-batch-size"]
    text = "The plan takes batches of at most 8, and --max-batch-size is 9. Ask for less"
    refused(2, text, *write, 9)
    assert call(*write, 8)[0] == 0
