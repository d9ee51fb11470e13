"""The CPU benchmark: its bounds, and that what it times computes what it says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.house.tree import REPOSITORY
from tests.native import op_library


@pytest.fixture
def part(monkeypatch):
    """A module of the benchmark, by name."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module


def test_bound_of_a_full_mask_is_one(part):
    blocks, masks = part("cpu.blocks"), part("cpu.masks")
    for block in blocks.BLOCKS + blocks.DEPTHWISE_BLOCKS:
        assert block.bound(masks.mask("salt", block.size, 1.0)) == pytest.approx(1.0)


def test_bounds_are_those_of_the_reference_shapes(part):
    blocks, masks = part("cpu.blocks"), part("cpu.masks")
    salt = [block.bound(masks.mask("salt", block.size, 0.1)) for block in blocks.BLOCKS]
    assert salt == pytest.approx([4.57, 4.58, 4.67, 4.75], rel=0.04)


def test_support_is_what_the_kernel_reads(part):
    active = np.zeros((5, 6), bool)
    active[0, 2] = True
    read = part("cpu.masks").support(active, 2)
    assert np.argwhere(read).tolist() == [[0, 0], [0, 2], [0, 4], [2, 0], [2, 2], [2, 4]]


@pytest.mark.parametrize("shape", ["r7", "i28"])
def test_rows_are_right_and_timed(shape, tmp_path):
    """In a process of its own, because the thread pool is shared by all sessions of one."""
    written = tmp_path / "rows.json"
    command = ["--quick", "--json", written, "--threads", "1", "--shapes", shape]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / "cpu_blocks.py"), *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PAGDEPLOY_ORT_OPS": str(op_library())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(written.read_text())
    cases = [(row["shape"], row["texture"], row["density"], row["engine"]) for row in rows]
    assert cases == [
        (shape, texture, density, engine)
        for density in (1.0, 0.5, 0.1)
        for texture in (("salt", "blob") if density < 1 else ("salt",))
        for engine in ("pure", "native")
    ]
    assert all(row["over_masked"] > 0 for row in rows)
    assert all(row["ratio"] > 0 and row["bound"] >= 0.99 and row["dense_ms"] > 0 for row in rows)
