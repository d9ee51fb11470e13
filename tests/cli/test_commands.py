"""Every command answers every bad request with one sentence and the right exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from PIL import Image
from typer.testing import CliRunner

from pagdeploy.cli import app
from pagdeploy.cli.dialects import translate
from pagdeploy.engines.ort_native import VARIABLE

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    result = CliRunner().invoke(app, translate([str(argument) for argument in arguments]))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(code: int, text: str, *arguments: object) -> None:
    """The command fails with that code and text: one line on stderr, the same as JSON."""
    got, out, err = call(*arguments)
    lines = [line for line in err.splitlines() if not line.startswith("[")]
    assert got == code, err
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], err
    assert "Traceback" not in err and not out
    got, out, err = call(*arguments, "--json")
    fault = json.loads(out)
    assert (got, fault["exit_code"]) == (code, code)
    assert text in f"{fault['error']} {fault['remedy']}" and fault["remedy"]
    assert not err


@pytest.fixture(autouse=True)
def _standard_operators(monkeypatch):
    """Whether our op library is installed must not matter."""
    monkeypatch.setenv(VARIABLE, "off")


def test_the_whole_road(model_file, tmp_path):
    bundle = tmp_path / "m.pagbundle"
    code, out, err = call("build", model_file, "-o", bundle, "--shapes", "image:1x3x12x14")
    assert code == 0, err
    assert f"{bundle}: onnxruntime " in out and "lowering (gather " in out
    assert "[1/6] read" in err and "note: Densities and times are of made-up noise" in err
    code, out, _ = call("verify", bundle)
    assert code == 0 and "computes the function of the portable model" in out
    code, out, _ = call("run", bundle)
    assert code == 0 and "1x4x12x14" in out
    code, out, _ = call("inspect", bundle)
    assert code == 0 and "every file as it was built" in out and "node s1" in out
    code, out, _ = call("inspect", model_file)
    assert code == 0 and "portable ONNX model" in out and "leaky_relu" in out


def test_every_command_speaks_json(model_file, tmp_path):
    bundle = tmp_path / "m.pagbundle"
    for arguments in (
        ["build", model_file, "-o", bundle, "--shapes", "image:1x3x12x14", "--lowering", "dense"],
        ["verify", bundle],
        ["verify", model_file, "--shapes", "image:1x3x9x9"],
        ["run", bundle],
        ["inspect", bundle],
        ["inspect", model_file],
    ):
        code, out, err = call(*arguments, "--json")
        assert code == 0 and json.loads(out) and not err, arguments
    answer = json.loads(call("verify", bundle, "--json")[1])
    assert answer["passed"] is True and answer["reason"] is None
    assert [gate["name"] for gate in answer["gates"]] == ["node s1", "node s2"]
    code, out, _ = call("doctor", "--json")
    findings = json.loads(out)
    assert code == (3 if any(f["status"] == "problem" for f in findings) else 0)
    assert {"python", "onnxruntime", "portable model"} <= {f["subject"] for f in findings}


def test_trtexec_spellings_are_taken(model_file, tmp_path):
    bundle = tmp_path / "m.pagbundle"
    code, _, err = call(
        "build", f"--onnx={model_file}", f"--saveEngine={bundle}", "--optShapes=image:1x3x8x10",
        "--lowering=dense", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["inputs"][0]["sample_shape"] == [1, 3, 8, 10]
    code, _, err = call("run", bundle, f"--saveOutputs={tmp_path}/out", "-q")
    assert code == 0 and (tmp_path / "out/y.npy").is_file(), err


def test_only_flags_are_translated_never_values():
    given = ["build", "mNet.onnx", "--optShapes=inA:1x3", "-o", "outDir", "--", "--saveEngine=x"]
    assert translate(given) == [
        "build", "mNet.onnx", "--opt-shapes=inA:1x3", "-o", "outDir", "--", "--saveEngine=x",
    ]  # fmt: skip
    assert translate(["--outputNames=aB", "--json"]) == ["--output-names=aB", "--json"]


PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] x) => (float[n] y) { y = Relu (x) }"""


@pytest.mark.parametrize("command", ["build", "verify", "inspect"])
def test_bad_models_are_refused(command, tmp_path):
    out = ["-o", tmp_path / "out.pagbundle"] if command == "build" else []
    path = tmp_path / "m.onnx"
    refused(2, f"There is no file {path}. Check the path.", command, path, *out)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(4, "is not an ONNX model", command, path, *out)
    whole = onnx.parser.parse_model(PLAIN).SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    refused(4, "is not an ONNX model, or it", command, path, *out)
    unknown = onnx.parser.parse_model(PLAIN.replace("Relu", "Blorp"))
    path.write_bytes(unknown.SerializeToString())
    refused(4, "neither ONNX nor pagdeploy defines: ai.onnx::Blorp", command, path, *out)
    path.write_bytes(
        onnx.parser.parse_model(PLAIN.replace("float[n] x", "string[n] x")).SerializeToString()
    )
    refused(4, "no tensor of numbers", command, path, *out)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_bad_requests_to_build_are_refused(model_file, tmp_path):
    out = tmp_path / "m.pagbundle"
    build = ["build", model_file, "-o", out]
    refused(2, "There is no engine named 'fast'. Choose", *build, "--engine", "fast")
    refused(2, "has no lowering 'x'. Choose one of: auto", *build, "--lowering", "x")
    refused(2, "The shape 'image=3' cannot be read. Write NAME", *build, "--shapes", "image=3")
    refused(2, "given for 'x', which is not an input", *build, "--shapes", "x:1x3x8x8")
    refused(2, "does not fit the input 'image'", *build, "--shapes", "image:1x4x8x8")
    refused(2, "is too large", *build, "--shapes", "image:1x3x99999x99999")
    refused(2, "There is no image none.jpg", *build, "--input", "image=none.jpg")
    elsewhere = ["build", model_file, "-o", tmp_path / "no/m", "--shapes", "image:1x3x8x8"]
    refused(2, "does not exist. Create it", *elsewhere)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 damaged")
    refused(
        4, "is not an image, or it is damaged", *build, "--input", f"image={tmp_path}/photo.jpg"
    )
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8)))
    refused(2, "The input 'image' is float64 (1, 3, 8, 8). The model wants image: float32",
            *build, "--input", f"image={tmp_path}/x.npy")  # fmt: skip
    assert not out.exists()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/manifest.json").write_text("{}")
    refused(2, "exists and was not written by pagdeploy", "build", model_file, "-o",
            tmp_path / "theirs", "--shapes", "image:1x3x8x8")  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.jpg", "theirs", "x.npy"]


def test_a_bundle_inside_a_bundle_is_refused(bundle, model_file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(bundle / "sample", target_is_directory=True)
    before = sorted(bundle.rglob("*"))
    for place in (bundle / "sub.pagbundle", bundle / "sample/sub", link / "sub", bundle / "sample"):
        text = f"{place} lies inside the bundle {bundle}, which is sealed. Choose another"
        refused(2, text, "build", model_file, "-o", place, "--shapes", "image:1x3x8x8")
    assert sorted(bundle.rglob("*")) == before


@pytest.mark.parametrize("command", ["verify", "run", "inspect"])
def test_files_that_a_bundle_does_not_list_are_refused(command, bundle):
    (bundle / ".DS_Store").write_bytes(b"left by a file manager")
    (bundle / "sample/empty").mkdir()
    assert call(command, bundle)[0] == 0
    (bundle / "sample/more.npz").write_bytes(b"")
    text = "holds the file 'sample/more.npz', which its manifest does not list. Remove it if it is"
    refused(4, text, command, bundle)


@pytest.mark.parametrize("command", ["verify", "run", "inspect"])
def test_bad_bundles_are_refused(command, bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(2, "is not a bundle: it has no manifest.json", command, tmp_path / "empty")
    content = bytearray((bundle / "engine.onnx").read_bytes())
    content[100] ^= 1
    (bundle / "engine.onnx").write_bytes(content)
    refused(4, "was changed: 'engine.onnx' is not the file that was built", command, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "files": {"../x": "0"}}))
    refused(4, "manifest.json was changed after the build", command, bundle)
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "format_version": 9}))
    refused(4, "has bundle format 9; this pagdeploy reads format 3. Update", command, bundle)
    (bundle / "manifest.json").write_text("[" * 9999)
    refused(4, "is not a manifest that pagdeploy wrote", command, bundle)


def test_bad_requests_to_verify_are_refused(bundle, model_file, tmp_path):
    text = f"belongs to an ONNX file, and {bundle} is a bundle. Leave it out"
    refused(2, f"The option --lowering {text}", "verify", bundle, "--lowering", "gather")
    refused(2, f"The option --shapes {text}", "verify", bundle, "--shapes", "image:1x3x8x8")
    refused(2, f"The option --precision {text}", "verify", bundle, "--precision", "fp16")
    refused(2, f"The option --keep-fp32 {text}", "verify", bundle, "--keep-fp32", "s1")
    refused(
        2,
        f"The option --calibration-data {text}",
        "verify",
        bundle,
        "--calibration-data",
        tmp_path / "c.npz",
    )
    for name in ("plugin", "densee", "auto"):
        text = f"has no lowering {name!r}. Choose one of: gather, dense."
        refused(2, text, "verify", model_file, "--lowering", name)
    (tmp_path / "empty").mkdir()
    refused(2, "is not a bundle: it has no manifest.json", "verify", tmp_path / "empty")
    Image.new("RGB", (9, 8)).save(tmp_path / "p.png")
    photo = ["--input", tmp_path / "p.png", "--shapes"]
    code, _, err = call("verify", bundle, *photo, "image:1x3x10x12")
    assert code == 0, err
    refused(2, "has the shape 1x3x8x9, not 2x3x8x9 as asked. Leave", "verify", model_file, *photo,
            "image:2x3x8x9")  # fmt: skip
    refused(2, "cannot be resized to 99999x99999", "verify", model_file, *photo,
            "image:1x3x99999x99999")  # fmt: skip


@pytest.mark.parametrize("command", ["verify", "run"])
def test_bad_inputs_are_refused(command, bundle, tmp_path):
    x = tmp_path / "x.npy"
    np.save(x, np.zeros((1, 3, 8, 8), np.float32))
    refused(2, "no input named 'photo'. Its inputs are image: float32", command, bundle, "--input",
            f"photo={x}")  # fmt: skip
    np.save(x, np.zeros((1, 5, 8, 8), np.float32))
    refused(
        2, "The input 'image' is float32 (1, 5, 8, 8)", command, bundle, "--input", f"image={x}"
    )
    refused(2, "There is no file none.npy", command, bundle, "--input", "image=none.npy")
    x.write_bytes(b"text")
    refused(4, "is not a .npy file of numbers", command, bundle, "--input", f"image={x}")


def test_bad_requests_to_run_are_refused(bundle, tmp_path):
    refused(2, "The size '4' cannot be read. Write HxW", "run", bundle, "--size", "4")
    refused(2, "cannot be read. Write HxW", "run", bundle, "--size", f"4x{'9' * 5000}")
    refused(2, "cannot be resized to 99999x99999. Give a size of at most", "run", bundle,
            "--size", "99999x99999", "--input", "image=photo.jpg")  # fmt: skip
    (tmp_path / "file").write_text("")
    refused(2, "cannot be made", "run", bundle, "--save-outputs", tmp_path / "file")
    refused(2, "is not a bundle", "run", tmp_path / "none")


def test_a_verification_that_fails_exits_with_1(bundle):
    from tests.verbs.test_road import plant, wrong_weight

    plant(bundle, wrong_weight)
    code, out, err = call("verify", bundle)
    assert code == 1 and "FAILED" in out and "failed: Output 'y' differs by" in err
    code, out, err = call("verify", bundle, "--json")
    assert code == 1 and json.loads(out)["passed"] is False and not err


@pytest.mark.parametrize(
    "arguments", [["fly"], ["build"], ["build", "m.onnx"], ["run", "x", "--fast"], ["verify"]]
)
def test_what_the_command_line_cannot_read_exits_with_2(arguments):
    code, out, err = call(*arguments)
    assert code == 2 and not out and "Usage:" in err
    code, out, err = call(*arguments, "--json")
    fault = json.loads(out)
    assert code == fault["exit_code"] == 2 and not err
    assert fault["error"].startswith(("No such", "Missing")), fault
    assert fault["remedy"].startswith("See '") and fault["remedy"].endswith(" --help'.")


def test_json_behind_two_dashes_is_no_flag():
    code, out, err = call("fly", "--", "--json")
    assert code == 2 and not out and "Usage:" in err


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
def test_a_refusal_of_the_system_is_one_sentence(tmp_path, monkeypatch, model_file):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    refused(3, "The system refuses: Permission denied", "inspect", model_file)


def test_verify_takes_a_precision(model_file, tmp_path):
    model = ["verify", model_file, "--shapes", "image:1x3x12x14", "--precision"]
    code, out, err = call(*model, "fp16", "--keep-fp32", "^w2$", "--lowering", "dense")
    assert code == 0, err
    assert "(dense, fp16) computes the function" in out
    answer = json.loads(call(*model, "bf16", "--json")[1])
    assert (answer["precision"], answer["passed"], answer["warnings"]) == ("bf16", True, [])

    np.savez(tmp_path / "c.npz", image=np.random.default_rng(0).random((3, 3, 12, 14), "f4"))
    code, out, err = call(*model, "int8", "--calibration-data", tmp_path / "c.npz")
    assert code == 0 and "(gather, int8) computes" in out, err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--precision", "fp8"], "There is no precision 'fp8'. Choose one of: fp32, tf32"),
        (["--precision", "int8"], "Give typical inputs with --calibration-data"),
        (["--precision", "fp16", "--keep-fp32", "node_l1"], "'node_l1' matches no node. Close to"),
        (["--precision", "fp16", "--keep-fp32", "[a"], "'[a' is not a regular expression"),
        (["--calibration-data", "c.npz"], "The precision fp32 needs no calibration data"),
        (["--keep-fp32", "a"], "With the precision fp32 every node is float32 already"),
        (["--precision", "int8", "--calibration-data", "none.npz"], "There is no file none.npz"),
    ],
)
def test_bad_precisions_are_refused(options, text, model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("c.npz", image=np.zeros((1, 3, 8, 8), "f4"))
    refused(2, text, "verify", model_file, "--shapes", "image:1x3x8x8", *options)


def test_verify_warns_of_what_float16_cannot_hold(tmp_path):
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    m (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] up = {60000}, float[1, 1, 1, 1] down = {0.001}>
    { a = Conv <kernel_shape = [1, 1]> (x, up) y = Conv <kernel_shape = [1, 1]> (a, down) }""")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, _, err = call("verify", tmp_path / "m.onnx", "--precision", "fp16")
    assert code == 0, err
    assert "warning: The value 'a' reaches 5.91e+04, near the end of float16 at 65504" in err
