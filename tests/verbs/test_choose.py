"""Each gated region gets the form that is cheapest on the decisions that the data cause."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import pagdeploy.measure.timing
from pagdeploy.bundle import open_bundle
from pagdeploy.engines.ort import OnnxRuntimeEngine
from pagdeploy.graph.choice import Choice, choice_of
from pagdeploy.graph.read import read_model
from pagdeploy.measure.timing import Timing
from pagdeploy.verbs.build import build
from pagdeploy.verbs.choose import choose_lowerings
from pagdeploy.verbs.reference import run_reference

REQUESTS = [
    {"image": np.random.default_rng(seed).random((1, 3, 20, 24), np.float32)} for seed in range(3)
]


@pytest.fixture
def portable(model_file):
    return read_model(model_file)


def choices(model) -> dict[str, Choice]:
    return {node.name: choice_of(node) for node in ir.from_proto(model).graph if node.domain}


def timed(monkeypatch, **milliseconds: float) -> None:
    """Make the stopwatch say this of each form, after it has run."""

    def time_in_turn(candidates, **_):
        for run in candidates.values():
            run()
        return {
            name: Timing(milliseconds[name.replace(", all", "_all").replace("-", "_")], 0, 1)
            for name in candidates
        }

    monkeypatch.setattr(pagdeploy.measure.timing, "time_in_turn", time_in_turn)


def test_densities_are_those_of_the_data(portable):
    _, costs = choose_lowerings(portable, REQUESTS, OnnxRuntimeEngine())
    shares = [
        [float((run_reference(portable, request)[name] == 1).mean()) for request in REQUESTS]
        for name in ("s1", "s2")
    ]
    assert [cost.nodes for cost in costs] == [("node a",), ("node y",)]
    for cost, share in zip(costs, shares, strict=True):
        assert cost.density == pytest.approx(np.mean(share), abs=1e-4)
        assert cost.largest == pytest.approx(max(share), abs=1e-4)
    assert set(costs[0].costs_ms) == {"dense", "gather"}
    assert set(costs[1].costs_ms) == {"dense", "gather", "gather-add"}, (
        "only an addition gathers it"
    )


def test_what_is_dense_by_measurement_is_marked_so(portable, monkeypatch):
    timed(monkeypatch, dense=1, gather=2, gather_all=3, gather_add=2, gather_add_all=3)
    marked, costs = choose_lowerings(portable, REQUESTS, OnnxRuntimeEngine())
    assert choices(marked)["node a"] == choices(marked)["node y"] == Choice("dense")
    assert choices(portable)["node a"] == Choice(), "the model itself is not changed"
    assert [cost.choice.lowering for cost in costs] == ["dense", "dense"]


def test_a_form_that_is_hardly_cheaper_is_not_worth_it(portable, monkeypatch):
    timed(monkeypatch, dense=1, gather=0.99, gather_all=1, gather_add=0.99, gather_add_all=1)
    marked, _ = choose_lowerings(portable, REQUESTS, OnnxRuntimeEngine())
    assert choices(marked)["node a"] == Choice("dense")


def test_the_threshold_is_where_the_straight_line_meets_the_dense_cost(portable, monkeypatch):
    timed(monkeypatch, dense=2, gather=1, gather_all=4, gather_add=0.5, gather_add_all=1.5)
    marked, costs = choose_lowerings(portable, REQUESTS[:1], OnnxRuntimeEngine())
    density = costs[0].density
    a, y = choices(marked)["node a"], choices(marked)["node y"]
    assert a.lowering == "gather"
    assert a.threshold == pytest.approx(density + (1 - density) / 3, abs=2e-3)
    assert y == Choice("gather-add", 1.0), "cheaper at every density: only all pixels are dense"


def test_build_writes_down_what_it_chose_by(model_file, tmp_path):
    stacked = {"image": np.concatenate([request["image"] for request in REQUESTS])}
    path = tmp_path / "m.pagbundle"
    build(model_file, path, engine="onnxruntime", lowering="gather", calibration=stacked)
    for op in open_bundle(path).manifest.ops:
        assert 0 < op.density <= op.largest_density <= 1
        assert op.costs_ms["dense"] > 0 and op.costs_ms["gather"] > 0
        assert op.threshold is None or op.density <= op.threshold <= 1
        assert (op.lowering == "dense") == (op.threshold is None)


def test_made_up_noise_is_nothing_to_choose_by(model_file, tmp_path):
    build(model_file, tmp_path / "m.pagbundle", engine="onnxruntime", lowering="gather")
    assert all(op.density is None for op in open_bundle(tmp_path / "m.pagbundle").manifest.ops)
