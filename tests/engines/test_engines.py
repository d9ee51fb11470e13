"""A request is checked before a native library sees it, and sessions run from many threads."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from pagdeploy.engines import engine_named, ort
from pagdeploy.engines.base import TensorInfo, check_inputs
from pagdeploy.engines.ort import OnnxRuntimeEngine
from pagdeploy.errors import BuildFailed, EnvironmentProblem, UsageError

WANTED = [TensorInfo("x", "float32", ("n", 3, "h", "w")), TensorInfo("k", "int64", (2,))]
GOOD = {"x": np.zeros((1, 3, 4, 5), np.float32), "k": np.zeros(2, np.int64)}
MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]>'
    "g (float[n, 2] x) => (float[n, 2] y, float[n, 2] z) { y = Neg (x) z = Exp (x) }"
)


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_onnxruntime_is_kept_from_telling_its_makers(given, kept, monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if given is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given)
    program = "import pagdeploy.engines, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == kept


def test_inputs_that_fit_are_taken():
    check_inputs(WANTED, GOOD)
    check_inputs(WANTED, {**GOOD, "x": np.zeros((7, 3, 1, 1), np.float32)})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"image": GOOD["x"]},
            "The model has no input named 'image'. Its inputs are x: float32 (n, 3, h, w); "
            "k: int64 (2).",
        ),
        (
            {"x": np.zeros((1, 3, 4, 5))},
            "The input 'x' is float64 (1, 3, 4, 5). The model wants x: float32 (n, 3, h, w).",
        ),
        ({"x": np.zeros((1, 4, 4, 5), np.float32)}, "The input 'x' is float32 (1, 4, 4, 5)."),
        ({"x": np.zeros((3, 4, 5), np.float32)}, "The input 'x' is float32 (3, 4, 5)."),
        ({"x": np.zeros((1, 3, 0, 5), np.float32)}, "The input 'x' is float32 (1, 3, 0, 5)."),
        ({"k": np.zeros(3, np.int64)}, "The input 'k' is int64 (3). The model wants k: int64 (2)."),
    ],
)
def test_inputs_that_do_not_fit_are_told_apart(change, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        check_inputs(WANTED, {**GOOD, **change})


def test_missing_input_is_named():
    with pytest.raises(
        UsageError, match=r"The input 'k' is missing\. Give every input: x: float32"
    ):
        check_inputs(WANTED, {"x": GOOD["x"]})


def test_unknown_engine_is_told_the_known_ones():
    assert engine_named("onnxruntime").name == "onnxruntime"
    with pytest.raises(
        UsageError, match=r"no engine named 'tensorflow'\. Choose one of: onnxruntime"
    ):
        engine_named("tensorflow")


def test_session_shows_its_interface_and_answers_by_name():
    session = OnnxRuntimeEngine().load(MODEL.SerializeToString())
    assert session.inputs == [TensorInfo("x", "float32", ("n", 2))]
    assert [info.name for info in session.outputs] == ["y", "z"]
    x = np.array([[1, 2]], np.float32)
    answers = session.run({"x": x})
    np.testing.assert_array_equal(answers["y"], -x)
    np.testing.assert_array_equal(
        session.run({"x": np.asfortranarray(x.repeat(3, 0))})["y"][1:2], -x
    )
    with pytest.raises(UsageError, match="The input 'x' is missing"):
        session.run({})


def test_one_session_runs_from_many_threads():
    session = OnnxRuntimeEngine().load(MODEL.SerializeToString())
    inputs = [np.full((n + 1, 2), n, np.float32) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: session.run({"x": x})["y"], inputs))
    for x, y in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(y, -x)


def test_the_sessions_of_the_host_program_go_on_beside_ours():
    content = MODEL.SerializeToString()
    load = OnnxRuntimeEngine().load
    sessions = [load(content), load(content, threads=1), load(content, taking_turns=True)]
    x = np.ones((2, 2), np.float32)
    host = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for session in sessions:
        np.testing.assert_array_equal(session.run({"x": x})["y"], host.run(None, {"x": x})[0])


def test_many_sessions_load_at_once():
    content = MODEL.SerializeToString()
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: OnnxRuntimeEngine().load(content), range(8)))
    assert all(session.run({"x": np.zeros((1, 2), np.float32)}) for session in sessions)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_what_the_runtime_refuses_is_one_sentence(content):
    with pytest.raises(BuildFailed, match=r"^onnxruntime \S+ refuses the model \(.*\)\. Check it"):
        OnnxRuntimeEngine().load(content)


def test_what_fails_at_run_time_is_one_sentence():
    adds = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x, float[m] y) => (float[k] z)'
        "{ z = Add (x, y) }"
    )
    session = OnnxRuntimeEngine().load(adds.SerializeToString())
    x, y = np.zeros(2, np.float32), np.zeros(3, np.float32)
    with pytest.raises(
        BuildFailed, match=r"fails on the input x \(2,\), y \(3,\) \(.*\)\. Try the"
    ):
        session.run({"x": x, "y": y})


class Finder:
    """Raises a problem when onnxruntime is imported."""

    def __init__(self, problem: BaseException) -> None:
        self.problem = problem

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "onnxruntime":
            raise self.problem


@pytest.fixture
def failing(monkeypatch):
    """Call it with a problem: from then on, importing onnxruntime raises it."""

    def arrange(problem: BaseException) -> None:
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder(problem), *sys.meta_path])
        ort._onnxruntime.cache_clear()

    yield arrange
    ort._onnxruntime.cache_clear()


def test_a_missing_runtime_is_told_from_one_that_does_not_load(failing):
    failing(ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"))
    text = "needs the package 'onnxruntime', which is not installed. Install it with: pip install"
    assert text in (OnnxRuntimeEngine().available() or "")
    with pytest.raises(EnvironmentProblem, match=re.escape(text)):
        OnnxRuntimeEngine().load(b"")


@pytest.mark.parametrize(
    "problem",
    [
        ImportError("DLL load failed: not found.\nand more"),
        ModuleNotFoundError("DLL load failed: not found.", name="flatbuffers"),
    ],
)
def test_a_runtime_that_does_not_load_says_why(failing, problem):
    failing(problem)
    text = (
        "onnxruntime is installed, but cannot be imported (DLL load failed: not found). Install it"
        " again: pip install --force-reinstall onnxruntime"
    )
    with pytest.raises(EnvironmentProblem, match=re.escape(text)):
        OnnxRuntimeEngine().load(b"")


def test_an_interrupted_import_of_the_runtime_stays_an_interrupt(failing):
    native = ImportError("initialization failed")
    native.__cause__ = KeyboardInterrupt()
    for problem in (KeyboardInterrupt(), native):
        failing(problem)
        with pytest.raises(KeyboardInterrupt):
            OnnxRuntimeEngine().load(b"")
