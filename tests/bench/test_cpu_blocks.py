"""The CPU benchmark: its bounds, and that what it times computes what it says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from pagdeploy.pipeline import lower
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


def test_bounds_of_the_other_forms(part):
    blocks, masks = part("cpu.blocks"), part("cpu.masks")
    half = masks.selection_of("salt", (120, 160), 0.5)[0, 0]
    pag, conv, pool = blocks.PAG_BLOCKS[0], blocks.PAG_CONVS[0], blocks.MULTI_POOLS[0]
    dense = 2 * 256 * 64 + 9 * 64 * 64
    assert pag.bound(half) == pytest.approx(dense / (dense - 9 * 64 * 64 / 2))
    assert conv.bound(half) == pytest.approx(2)
    assert conv.bound(half, half == 0, np.ones_like(half)) == pytest.approx(3 / 2)
    even = masks.selection_of("salt", pool.size, 6 / 7, pool.branches)[0, 0]
    assert np.bincount(even.ravel()) / even.size == pytest.approx(1 / 7, abs=1e-4)
    assert pool.bound(even) == pytest.approx(7 / 6, rel=1e-3)


def outputs(model, inputs):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("form", ["whole", "pag", "conv"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gated_blocks_with_all_pixels_active_are_the_dense_ones(part, form, channels_last):
    blocks = part("cpu.blocks")
    block = blocks.Block("b", 4, 4, (5, 6), dilation=2, form=form)
    x = np.random.default_rng(0).random((1, 4, 5, 6), np.float32)
    wanted = outputs(blocks.dense_model(block, 2), {"x": x})
    gated = lower(blocks.gated_model(block, channels_last, 2), "dense")
    ones = np.ones((1, 1, 5, 6), np.int32)
    given = x.transpose(0, 2, 3, 1) if channels_last else x
    found = outputs(gated, {"x": given, "selection": ones, "selection2": ones})
    found = found.transpose(0, 3, 1, 2) if channels_last else found
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_multi_pool_takes_the_dilation_that_the_pixel_chose(part):
    blocks = part("cpu.blocks")
    block = blocks.Block("m", 3, 3, (9, 8), form="pool")
    x = np.random.default_rng(0).random((1, 3, 9, 8), np.float32)
    selection = np.random.default_rng(1).integers(0, 7, (1, 1, 9, 8)).astype(np.int32)
    found = outputs(lower(blocks.gated_model(block), "dense"), {"x": x, "selection": selection})
    weights = block.weights()
    for y, z in np.ndindex(9, 8):
        branch = selection[0, 0, y, z]
        wanted = x[0, :, y, z]
        if branch < 6:
            d = blocks.DILATIONS[branch]
            padded = np.pad(x[0], ((0, 0), (d, d), (d, d)))
            taps = padded[:, y : y + 2 * d + 1 : d, z : z + 2 * d + 1 : d]  # (C, 3, 3)
            sums = np.einsum("cij,ocij->o", taps, weights[f"w{branch + 1}"])
            wanted = np.maximum(sums + weights[f"b{branch + 1}"], 0)
        np.testing.assert_allclose(found[0, :, y, z], wanted, rtol=1e-4, atol=1e-4)


def bench(*command):
    """In a process of its own, because the thread pool is shared by all sessions of one."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / "cpu_blocks.py"), *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PAGDEPLOY_ORT_OPS": str(op_library())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_names_the_kinds():
    said = bench("--help")
    assert "--quick" in said and "--json FILE" in said and "--kinds" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shapes", "b256", "typo"], "there is no shape typo; choose from b256, b512,"),
        (["--threads", "0"], "'0' is not a number from 1 on"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, sentence):
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / "cpu_blocks.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr


def test_rows_are_right_and_timed(tmp_path):
    written = tmp_path / "rows.json"
    shapes = {
        "small": "r7", "depthwise": "i28", "odd": "o320", "pag": "p320", "conv": "c80",
        "pool": "m80", "int8": "qo320",
    }  # fmt: skip
    command = ["--quick", "--json", written, "--no-peers", "--blocks", 2, "--densities", 0.5]
    said = bench(*command, "--kinds", *shapes, "--shapes", *shapes.values())
    rows = json.loads(written.read_text())
    cases = [(row["threads"], row["kind"], row["texture"], row["engine"]) for row in rows]
    assert cases == [
        (threads, kind, texture, engine)
        for threads in (1, 2)
        for kind in shapes
        for texture in {"pag": ("pag",), "conv": ("pag",), "pool": ("pag", "blob")}.get(
            kind, ("salt", "blob")
        )
        for engine in ("pure", "native")
    ]
    for row in rows:
        assert row["shape"] == shapes[row["kind"]]
        assert row["shape"] in said
        assert row["ratio"] == pytest.approx(row["dense_ms"] / row["engine_ms"])
        assert row["over_masked"] == pytest.approx(row["masked_ms"] / row["engine_ms"])
        assert row["efficiency"] == pytest.approx(row["ratio"] / row["bound"])
        assert row["bound"] > 1
        assert ("unequal" in row["others"]) == (row["kind"] == "int8")
