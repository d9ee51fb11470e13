"""The runner on a fake of TensorRT and CUDA, and compiled against real headers where they are."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.bench.conftest import BENCH, road

FAKE = Path(__file__).with_name("fake_tensorrt")
COMPILE = ["g++", "-std=c++17", "-O0", "-fPIC", "-Wall", "-Wextra", "-Werror"]
# Interfaces that are never destroyed through a pointer have no virtual destructor in TensorRT.
COMPILE += ["-Wno-non-virtual-dtor", f"-I{FAKE}"]

needs_onnxruntime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)

MODEL = """input image float32 1 2 3
input gate/own.s int32 1 2
output y float32 1 2 3
output h float16 1 4
plugin conv
"""


@pytest.fixture(scope="module", params=[8, 10])
def folder(request, tmp_path_factory):
    """A folder with the fake libraries of one major version, and the runner."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on the PATH")
    place = tmp_path_factory.mktemp(f"trt{request.param}")
    version = f"-DNV_TENSORRT_MAJOR={request.param}"
    sources = {
        "cuda.o": FAKE / "cuda.cpp",
        "nvinfer.o": FAKE / "nvinfer.cpp",
        "runner.o": BENCH / "tensorrt_runner" / "trt_runner.cpp",
    }
    compilers = [
        subprocess.Popen([*COMPILE, version, "-c", str(source), "-o", str(place / target)])
        for target, source in sources.items()
    ]
    assert [compiler.wait() for compiler in compilers] == [0, 0, 0]
    library = f"libnvinfer.so.{request.param}"
    links = [
        ["-shared", "cuda.o", "-o", "libfakecuda.so"],
        ["-shared", "nvinfer.o", "-o", library, "-L.", "-lfakecuda"],
        ["runner.o", "-o", "trt_runner", "-L.", "-lfakecuda", "-ldl"],
    ]
    for link in links:
        subprocess.run(["g++", *link], cwd=place, check=True)
    (place / library.replace("nvinfer", "nvonnxparser")).symlink_to(library)
    (place / "libcuda.so.1").symlink_to("libfakecuda.so")
    (place / "libplugins.so").touch()
    (place / "m.onnx").write_text(MODEL)
    for name, value in (("a", 1), ("b", 7)):
        (place / name).mkdir()
        (place / name / "image.bin").write_bytes(bytes([value] * 24))
        (place / name / "gate_own.s.bin").write_bytes(bytes(8))
    return place


def run(folder, *arguments, **environment):
    """Exit code, result and last line of stderr."""
    done = subprocess.run(
        [str(folder / "trt_runner"), *arguments],
        cwd=folder,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout) if done.stdout else None
    return done.returncode, result, done.stderr.strip().rpartition("\n")[2]


@pytest.fixture
def engine(folder):
    code, _, said = run(folder, "build", "m.onnx", "e", "--plugin", "libplugins.so")
    assert code == 0, said
    return folder


def test_facts(folder):
    code, found, _ = run(folder, "facts")
    assert code == 0
    assert found["device"] == 'a "fake" device'
    assert found["tensorrt_library"] == found["tensorrt_headers"]


def test_no_device(folder):
    assert run(folder, "facts", FAKE_NO_DEVICE="1") == (77, None, "skipped: no CUDA device")


def test_build_names_float32_layers_and_keeps_the_cache(folder):
    (folder / "names").write_text("conv\nanother")
    options = ["--fp16", "--float32-layers", "names", "--cache", "timings"]
    for _ in range(2):
        code, found, _ = run(folder, "build", "m.onnx", "e", *options, "--json", "j")
        assert code == 0
    assert found["network_layers"] == 1
    assert found["float32_layers"] == (1 if "trt8" in folder.name else 0)
    assert (folder / "timings").read_text() == "timings"
    assert json.loads((folder / "j").read_text()) == found


def test_outputs_of_every_way(engine):
    options = ["--graph", "--outputs", "out", "--layers", "layers", "--profile", "4"]
    inputs = ["--inputs", "a", "--inputs", "b"]
    code, found, said = run(engine, "run", "e", "--plugin", "plugins", *inputs, *options)
    assert code == 0, said
    named = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert named["gate/own.s"] == {
        "name": "gate/own.s", "type": "int32", "shape": [1, 2], "output": False
    }  # fmt: skip
    assert named["h"]["type"] == "float16"
    assert [layer["ms"] for layer in found["layers"]] == [0.5, 0.25]
    for way in ("plain", "replayed"):
        for number, value in ((0, 2), (1, 8)):
            y = np.fromfile(engine / "out" / f"{way}-{number}" / "y.bin", np.uint8)
            assert y.tolist() == [value] * 24
    assert json.loads((engine / "layers").read_text()) == {"Layers": []}


def test_unwritten_elements_are_nan(folder):
    """The fake writes as many bytes as the input has; this output has more."""
    (folder / "long.onnx").write_text("input image float32 2 3\noutput y float32 2 4\n")
    assert run(folder, "build", "long.onnx", "long")[0] == 0
    for graph in ([], ["--graph"]):
        assert run(folder, "run", "long", "--inputs", "a", "--outputs", "long.out", *graph)[0] == 0
        way = "replayed-0" if graph else "plain-0"
        y = np.fromfile(folder / "long.out" / way / "y.bin", np.float32)
        assert np.isnan(y).tolist() == [False] * 6 + [True] * 2


def test_open_sizes_are_told(folder):
    (folder / "open.onnx").write_text("input x float32 -1 3\noutput y float32 -1 3\n")
    code, _, said = run(folder, "build", "open.onnx", "open")
    assert (code, said) == (1, "error: the input x is dynamic and needs a --shape")
    assert run(folder, "build", "open.onnx", "open", "--shape", "x:1x3,2x3,4x3")[0] == 0
    code, _, said = run(folder, "run", "open", "--inputs", "a")
    assert (code, said) == (1, "error: the size of x is open: an input needs a --shape")
    (folder / "a" / "x.bin").write_bytes(bytes(24))
    code, found, _ = run(folder, "run", "open", "--inputs", "a", "--shape", "x:2x3")
    assert (code, found["tensors"][1]["shape"]) == (0, [2, 3])


def test_engines_take_turns(engine):
    options = ["--plugin", "plugins", "--inputs", "a", "--inputs", "b", "--rounds", "5"]
    code, found, _ = run(engine, "time", "e", "e", *options)
    assert code == 0
    results = found["results"]
    assert [(one["engine"], one["inputs"]) for one in results] == [
        ("e", "a"), ("e", "a"), ("e", "b"), ("e", "b")
    ]  # fmt: skip
    for one in results:
        assert one["sets"] > 1
        taken = one["time"]
        assert taken["rounds"] == 5
        assert 0 < taken["p10_ms"] <= taken["median_ms"] <= taken["p90_ms"] <= taken["p99_ms"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "e", "--inputs", "a"], "TensorRT does not load e: no creator for the plugin"),
        (["facts", "--plugin", "other"], "TensorRT refuses the plugin library other"),
        (["run", "e", "--plugin", "plugins", "--inputs", "c"], "cannot read c/image.bin"),
        (["run", "none", "--inputs", "a"], "cannot read none"),
        (["build", "wrong.onnx", "e2"], "parser refuses wrong.onnx: node 3: no such op"),
        (["build", "m.onnx"], "usage: trt_runner facts | build MODEL ENGINE | run"),
        (["facts", "--typo"], "the option --typo is unknown"),
        (["run", "e", "--inputs"], "--inputs needs a value"),
        (["facts", "--shape", "x:1x"], "the shape 1x is not spelt like 1x3x480x640"),
        (["facts", "--rounds", "many"], "--rounds needs a number, not many"),
    ],
)
def test_errors_are_one_sentence(engine, arguments, sentence):
    (engine / "wrong.onnx").write_text("neither this\n")
    code, result, said = run(engine, *arguments)
    assert (code, result) == (1, None)
    assert said.startswith("error: ")
    assert sentence in said


@needs_onnxruntime
def test_road_drives_the_runner(folder, prepared, tmp_path):
    """With a device, the script starts the runner; the fake reads no ONNX, which fails a case."""
    results, log = tmp_path / "results.json", tmp_path / "log"
    options = ["--runner", folder / "trt_runner", "--plugins", folder / "libplugins.so"]
    options += ["--libraries", folder, "--work", tmp_path / "work", "--json", results]
    options += ["--log", log, "--stages", "facts", "fresh"]
    done = road("run", prepared, *options, LD_LIBRARY_PATH=str(folder))
    assert done.returncode == 1
    assert 'facts:\n  device a "fake" device, capability 9.0' in done.stdout
    stages = json.loads(results.read_text())["stages"]
    assert stages["facts"]["failed"] == 0
    (row,) = stages["fresh"]["rows"]
    assert row["failures"] == [
        f"build ended with 1: error: TensorRT's parser refuses "
        f"{tmp_path / 'work' / 'models' / 'both.fp16.free.onnx'}: node 3: no such op"
    ]
    assert log.read_text().count("$ ") == 2


@needs_onnxruntime
def test_missing_parts_are_named(folder, prepared, tmp_path):
    done = road("run", prepared, LD_LIBRARY_PATH=str(folder))
    assert done.returncode == 2
    assert done.stdout == f"there is no plugin library in {prepared}; name one by --plugins\n"
    done = road("run", prepared, "--plugins", tmp_path / "p.so", LD_LIBRARY_PATH=str(folder))
    assert done.returncode == 2
    assert done.stdout == f"there is no {tmp_path / 'p.so'}\n"


def headers():
    """Every folder of TensorRT headers, the parser's among them, that the environment names."""
    roots = [os.environ.get(name) for name in ("TensorRT_ROOT", "TRT_ROOT")]
    versions = os.environ.get("PAGDEPLOY_TENSORRT_HEADERS")
    found = [Path(root) / "include" for root in roots if root]
    found += sorted(Path(versions).glob("*/include")) if versions else []
    return [folder for folder in found if (folder / "NvOnnxParser.h").is_file()]


@pytest.mark.trt
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
@pytest.mark.skipif(not headers(), reason="no NvOnnxParser.h below TensorRT_ROOT")
@pytest.mark.parametrize("include", headers(), ids=lambda include: include.parent.name)
def test_compiles_against_real_headers(part, include, tmp_path):
    program = part("prepare").compile_runner(tmp_path, include)
    done = subprocess.run([program, "facts"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 77)
    if done.returncode == 77:
        assert done.stderr == "skipped: no CUDA device\n"
