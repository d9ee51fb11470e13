"""Where the onnxruntime op library is looked for, and what becomes of one that does not work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pagdeploy.engines import ort_native
from pagdeploy.errors import EnvironmentProblem


@pytest.fixture(autouse=True)
def forget(tmp_path, monkeypatch):
    """No verdict of another test or run is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ort_native._self_test.cache_clear()


def _compiled(folder: Path, source: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = folder / ort_native.LIBRARY
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def test_named_file_is_found(tmp_path):
    path = tmp_path / "anything.so"
    path.touch()
    assert ort_native.find_op_library({ort_native.VARIABLE: str(path)}) == path


def test_off_is_off():
    assert ort_native.find_op_library({ort_native.VARIABLE: "off"}) is None


def test_named_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"PAGDEPLOY_ORT_OPS names the file .*gone\.so"):
        ort_native.find_op_library({ort_native.VARIABLE: str(tmp_path / "gone.so")})


def test_file_that_is_no_library_fails_its_test(tmp_path):
    path = tmp_path / "text.so"
    path.write_text("no library")
    assert "cannot be used" in ort_native.self_test(path)


def test_library_without_our_ops_fails_its_test(tmp_path):
    path = _compiled(tmp_path, "void *RegisterCustomOps(void *o, void *a) { return 0; }")
    assert "cannot be used" in ort_native.self_test(path)


def test_crash_stays_in_the_child(tmp_path):
    path = _compiled(tmp_path, "int *RegisterCustomOps(void *o) { __builtin_trap(); }")
    assert "ended with signal" in ort_native.self_test(path)


def test_library_that_fails_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    path = tmp_path / "text.so"
    path.write_text("no library")
    monkeypatch.setenv(ort_native.VARIABLE, str(path))
    assert ort_native.op_library() is None
    assert "are left out" in caplog.text
    assert not (tmp_path / "cache" / "pagdeploy").exists(), "only what passed is remembered"
