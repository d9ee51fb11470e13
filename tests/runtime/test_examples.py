"""The C++ examples, built from an installed wheel, beside `pagdeploy run`: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pagdeploy
from pagdeploy.bundle import open_bundle
from pagdeploy.engines.ort_native import VARIABLE
from tests.models import model_of
from tests.native import built_op_library
from tests.runtime.conftest import checked
from tests.runtime.make_bundles import onnxruntime_library

pytestmark = pytest.mark.slow

SIZE = (120, 160)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo as PPM, small enough to run it often."""
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "coffee.ppm"
    Image.fromarray(data.coffee()).resize((SIZE[1], SIZE[0])).save(path)
    return path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> dict[str, Path]:
    """The trained network with a budget input, in every lowering that can be built here."""
    pytest.importorskip("torch")
    from pagdeploy.examples.rooms.model import WEIGHTS
    from pagdeploy.verbs.inputs import read_image

    folder = tmp_path_factory.mktemp("bundles")
    pagdeploy.export(
        "pagdeploy.examples.rooms.model:gated",
        folder / "model.onnx",
        weights=WEIGHTS / "gated50.safetensors",
        shapes={"image": (1, 3, *SIZE)},
        budget_input="budget",
    )
    inputs = {"image": read_image(photo), "budget": np.float32(0)}
    library, found = built_op_library(), {}
    with pytest.MonkeyPatch.context() as patch:
        if library is not None:
            patch.setenv(VARIABLE, str(library))
        for lowering in ("gather", "dense", "native") if library else ("gather", "dense"):
            found[lowering] = folder / f"{lowering}.pagbundle"
            pagdeploy.build(
                folder / "model.onnx",
                found[lowering],
                engine="onnxruntime",
                lowering=lowering,
                inputs=inputs,
            )
    return found


def environment() -> dict[str, str]:
    """What the examples read."""
    library = built_op_library()
    return {
        "PAGDEPLOY_RUNTIME_LIBRARY": str(onnxruntime_library()),
        "PAGDEPLOY_ALLOW_HOST_CODE": "1",
        **({VARIABLE: str(library)} if library else {}),
    }


@pytest.mark.parametrize("lowering", ["gather", "dense", "native"])
@pytest.mark.parametrize("budget", ["0", "0.75"])
def test_minimal_says_what_run_says(
    lowering: str,
    budget: str,
    bundles: dict[str, Path],
    examples: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    if lowering not in bundles:
        pytest.skip("no onnxruntime op library was built")
    bundle = bundles[lowering]
    checked(examples / "minimal", bundle, photo, tmp_path, f"budget={budget}", **environment())
    saved = tmp_path / "python"
    inputs = ("--input", f"image={photo}", "--input", f"budget={budget}")
    checked(
        sys.executable,
        "-m",
        "pagdeploy",
        "run",
        bundle,
        *inputs,
        "--save-outputs",
        saved,
        "--quiet",
        **environment(),
    )
    names = [tensor.name for tensor in open_bundle(bundle).manifest.outputs]
    assert len(names) == 4
    for name in names:
        ours, python = np.load(tmp_path / f"{name}.npy"), np.load(saved / f"{name}.npy")
        assert (ours.dtype, ours.shape) == (python.dtype, python.shape)
        assert ours.tobytes() == python.tobytes(), name


def test_threads_agree(bundles: dict[str, Path], examples: Path, photo: Path) -> None:
    printed = checked(examples / "threads", bundles["gather"], photo, 4, 3, **environment())
    assert printed.startswith("4 threads, ")
    assert printed.endswith("all alike\n")


def test_video_loop_governs(bundles: dict[str, Path], examples: Path, photo: Path) -> None:
    # A deadline that no frame meets drives the budget to its end; one that all meet leaves it.
    for deadline, last in (("0.001", 1.0), ("100000", 0.0)):
        printed = checked(
            examples / "video_loop", bundles["gather"], deadline, 12, photo, **environment()
        )
        lines = [line.split() for line in printed.splitlines()]
        assert [int(line[0]) for line in lines] == list(range(12))
        assert float(lines[0][2]) == 0.0
        assert float(lines[-1][2]) == last


def test_plain_onnxruntime_runs_the_engine(examples: Path, photo: Path, tmp_path: Path) -> None:
    """Without our runtime; on a model of one input."""
    if not (examples / "plain_onnxruntime").is_file():
        pytest.skip("no C++ header of onnxruntime")
    image = (TensorProto.FLOAT, [1, 3, *SIZE])
    model = model_of(
        [helper.make_node("Sigmoid", ["image"], ["out"], name="s")],
        {"image": image},
        {"out": image},
    )
    onnx.save(model, tmp_path / "m.onnx")
    pagdeploy.build(tmp_path / "m.onnx", tmp_path / "m.pagbundle", engine="onnxruntime")
    engine = tmp_path / "m.pagbundle/engine.onnx"
    ours = tmp_path / "ours"
    ours.mkdir()
    # The package names the library by its full version, and programs ask for its major one.
    (tmp_path / "libonnxruntime.so.1").symlink_to(onnxruntime_library())
    checked(examples / "plain_onnxruntime", engine, photo, tmp_path, LD_LIBRARY_PATH=str(tmp_path))
    checked(examples / "minimal", tmp_path / "m.pagbundle", photo, ours, **environment())
    assert (tmp_path / "out.npy").read_bytes() == (ours / "out.npy").read_bytes()
    assert np.load(ours / "out.npy").shape == (1, 3, *SIZE)


def test_errors_have_the_exit_codes_of_the_command_line(examples: Path, photo: Path) -> None:
    done = subprocess.run(
        [str(examples / "minimal"), "/nowhere", str(photo), "."],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "/nowhere is not a bundle: it has no manifest.json. Give the folder that 'pagdeploy build'"
        " wrote.\n"
    )


def test_pkg_config_finds_it(installed: Path, tmp_path: Path) -> None:
    if subprocess.run(["pkg-config", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no pkg-config")
    where = {"PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    flags = checked("pkg-config", "--cflags", "--libs", "pagdeploy", **where).split()
    source = installed / "share/pagdeploy/examples/minimal.cpp"
    checked("c++", "-std=c++17", source, "-o", tmp_path / "minimal", *flags)


def test_a_bundle_lies_beside_its_program(
    installed: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    source = installed / "share/pagdeploy/examples"
    prefix = f"-DCMAKE_PREFIX_PATH={installed}"
    bundle = bundles["gather"]
    checked("cmake", "-S", source, "-B", tmp_path, prefix, f"-DBUNDLE={bundle}")
    checked("cmake", "--build", tmp_path, "--target", "minimal")
    assert open_bundle(tmp_path / bundle.name).manifest == open_bundle(bundle).manifest
