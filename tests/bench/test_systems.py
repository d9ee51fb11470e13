"""The benchmark of the literature's networks: what its rows say, and one network all the way."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from tests.house.tree import REPOSITORY

pytest.importorskip("torch")


@pytest.fixture
def rows(monkeypatch):
    """Import bench/literature/row.py as the script does."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module("literature.row")


def systems(*arguments):
    """Run bench/systems.py."""
    return subprocess.run(
        [sys.executable, "bench/systems.py", *map(str, arguments)],
        cwd=REPOSITORY, check=False, capture_output=True, text=True,
    )  # fmt: skip


def row_of(rows, needed=50.0, **milliseconds):
    times = {rows.PLAIN: 8.0, rows.MASKED: 10.0, **milliseconds}
    return rows.Row("some", macs_dense=100.0, macs_needed=needed, milliseconds=times)


def test_ratios_are_the_time_of_the_baseline_over_the_engine(rows):
    row = row_of(rows, native=4.0)
    assert row.ratio("native") == 2.0
    assert row.ratio("native", rows.MASKED) == 2.5
    assert row.ratio("pure") == 0.0
    assert rows.line(row).split("  ")[-5:] == ["2.00", "2.00", "-", "2.50", "-"]
    assert rows.line(row, timed=False).endswith("  2.00"), "the ceiling"


def test_a_row_in_json_tells_the_better_ratio_and_the_ceiling(rows):
    row = row_of(rows, needed=40.0, native=5.0, pure=4.0)
    told = row.to_json()
    assert (told["ratio"], told["ceiling"]) == (2.0, 2.5)
    assert rows.Row.from_json(told) == row
    assert rows.Row("none").to_json()["ratio"] == 0.0


@pytest.mark.parametrize(
    ("expected", "row"),
    [
        (False, {"native": 9.0, "pure": 7.9}),
        (True, {"native": 9.0, "pure": 8.0}),
        (False, {"native": 9.0, "needed": 81.0}),
        (True, {"native": 9.0, "needed": 80.0}),
    ],
)
def test_a_row_is_slow_if_no_engine_is_faster_although_much_work_is_saved(rows, expected, row):
    assert row_of(rows, **row).is_slow is expected


def test_a_row_that_was_not_timed_is_not_slow(rows):
    assert not rows.Row("some", macs_dense=100.0, macs_needed=50.0).is_slow


@pytest.mark.parametrize("size", ["64", "0x64", "64x", "64x64x3"])
def test_a_size_is_height_and_width(size):
    refused = systems("--size", size)
    assert refused.returncode == 2
    assert f"'{size}' is no size such as 480x640" in refused.stderr


@pytest.mark.slow
def test_one_network_all_the_way_in_steps(tmp_path):
    path, models = tmp_path / "rows.json", tmp_path / "models"
    asked = ["--only", "DynConv", "--engine", "pure", "--models", models, "--size", "32x64"]
    exported = systems(*asked, "--until", "export")
    assert exported.returncode == 0, exported.stderr
    (folder,) = models.iterdir()
    assert {file.name for file in folder.iterdir()} == {"m.onnx", "sample.npz"}

    built = systems(*asked, "--until", "build", "--json", path)
    assert built.returncode == 0, built.stderr
    (row,) = json.loads(path.read_text())
    assert (row["gates_found"], row["perforated"], row["verified"]) == (2, 6, True)
    assert row["milliseconds"] == {}
    assert row["macs_needed"] < row["macs_dense"]

    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    timed = systems(*asked, "--markdown", "--json", path)
    assert timed.returncode == 0, timed.stderr
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times, "made again"
    (again,) = json.loads(path.read_text())
    assert set(again["milliseconds"]) == {"plain dense", "masked dense", "pure"}
    assert again["macs_needed"] == row["macs_needed"]
    assert timed.stdout.startswith("| DynConv | 2 / 2 | 6 / 6 | yes | ")
