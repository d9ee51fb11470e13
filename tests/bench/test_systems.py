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
def systems(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module("systems")


def row_of(systems, needed=50.0, **milliseconds):
    times = {systems.PLAIN: 8.0, systems.MASKED: 10.0, **milliseconds}
    return systems.Row("some", macs_dense=100.0, macs_needed=needed, milliseconds=times)


def test_ratios_are_the_time_of_the_baseline_over_the_engine(systems):
    row = row_of(systems, native=4.0)
    assert row.ratio("native") == 2.0
    assert row.ratio("native", systems.MASKED) == 2.5
    assert row.ratio("pure") == 0.0
    assert systems.line(row).split("  ")[-5:] == ["2.00", "2.00", "-", "2.50", "-"]
    assert systems.line(row, timed=False).endswith("  2.00"), "the ceiling"


@pytest.mark.parametrize(
    ("expected", "row"),
    [
        (False, {"native": 9.0, "pure": 7.9}),
        (True, {"native": 9.0, "pure": 8.0}),
        (False, {"native": 9.0, "needed": 81.0}),
        (True, {"native": 9.0, "needed": 80.0}),
    ],
)
def test_a_row_is_slow_if_no_engine_is_faster_although_much_work_is_saved(systems, expected, row):
    assert row_of(systems, **row).is_slow is expected


@pytest.mark.slow
def test_one_network_all_the_way(tmp_path):
    path = tmp_path / "rows.json"
    command = [sys.executable, "bench/systems.py", "--only", "DynConv", "--engine", "pure"]
    made = subprocess.run(
        [*command, "--markdown", "--json", str(path)],
        cwd=REPOSITORY, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (row,) = json.loads(path.read_text())
    assert (row["gates_found"], row["perforated"], row["verified"]) == (2, 6, True)
    assert set(row["milliseconds"]) == {"plain dense", "masked dense", "pure"}
    assert row["macs_needed"] < row["macs_dense"]
    assert made.stdout.startswith("| DynConv | 2 / 2 | 6 / 6 | yes | ")
