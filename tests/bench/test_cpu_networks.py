"""The benchmark of whole networks: what it forces, its bound, and a small run of all of it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from tests.house.tree import REPOSITORY
from tests.native import op_library

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """The small network, masked alone, and the module that made it."""
    sys.path.insert(0, str(REPOSITORY / "bench"))
    try:
        networks = importlib.import_module("cpu.networks")
    finally:
        sys.path.pop(0)
    portable = networks.TINY.export(tmp_path_factory.mktemp("models"))
    return networks, networks.Candidates(portable, {})


def outputs(model, inputs):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    taken = {each.name for each in session.get_inputs()}
    return session.run(None, {k: v for k, v in inputs.items() if k in taken})[0]


def test_selections_have_the_wanted_density(candidates):
    _, made = candidates
    selections = made.selections("pag", 0.3)
    assert len(selections) == 5
    shares = sorted(float((array == 1).mean()) for array in selections.values())
    assert shares[1:] == pytest.approx([0.3] * 4, abs=0.01)
    assert shares[0] == pytest.approx(1 / 7, abs=0.01)  # of MultiPool's second branch


def test_what_is_forced_decides(candidates):
    """Not the gate: another selection gives another result, the same one the same."""
    networks, made = candidates
    image = {networks.INPUT: networks.TINY.image()}
    first, second = (made.selections("pag", density) for density in (0.7, 0.3))
    model = made.models["masked"]
    wanted = outputs(model, image | first)
    np.testing.assert_array_equal(outputs(model, image | first), wanted)
    assert np.abs(outputs(model, image | second) - wanted).max() > 1e-3 * np.abs(wanted).max()


def test_all_active_is_the_plain_network_but_for_multi_pool(candidates):
    networks, made = candidates
    image = {networks.INPUT: networks.TINY.image()}
    selections = made.selections("pag", 1.0)
    for array in selections.values():
        if array.max() > 1:
            array[:] = 5  # the dilation that the plain network keeps
    found = outputs(made.models["masked"], image | selections)
    wanted = outputs(made.models["dense"], image)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_bound_counts_gates_and_grows_as_density_falls(candidates):
    networks, made = candidates
    image = {networks.INPUT: networks.TINY.image()}
    bounds = [made.bound(image, made.selections("pag", density)) for density in (1.0, 0.5, 0.1)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 1  # the gates and MultiPool's head come on top


def test_small_run(tmp_path):
    written = tmp_path / "rows.json"
    command = ["--shapes", "tiny", "--quick", "--json", written, "--threads", 1]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / "cpu_networks.py"), *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PAGDEPLOY_ORT_OPS": str(op_library())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny: peak memory of native" in done.stdout
    rows = json.loads(written.read_text())
    assert [(row["density"], row["engine"]) for row in rows] == [
        (density, engine) for density in (0.7, 0.5, 0.3) for engine in ("pure", "native")
    ]
    for row in rows:
        assert row["ratio"] > 0 and row["over_masked"] > 0
        assert row["efficiency"] == pytest.approx(row["ratio"] / row["bound"])
        assert ("peak_mib" in row["others"]) == (row["density"] == 0.7)
