"""`inspect --gates` says of every gate what decides, what it spares, and what stays, and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.pipeline import recognise
from pagdeploy.verbs.build import build
from pagdeploy.verbs.inspect import inspect_gates
from tests.cli.test_commands import call, refused
from tests.engines.nvidia.toolbox import plan_bytes
from tests.passes.recognition import SAME, model_of

POINT = "<kernel_shape = [1, 1]>"
BOTTLENECK = f"""
    stem = Conv {SAME} (x, w, b)
    t = GreaterOrEqual (g, third)
    m = Cast <to = 1> (t)
    c1 = Conv {POINT} (stem, w1, b)
    r1 = Relu (c1)
    c2 = Conv {SAME} (r1, w, b)
    c3 = Conv {POINT} (c2, w1, b)
    p = Mul (c3, m)
    y = Add (stem, p)
"""


def saved(body: str, path: Path) -> Path:
    onnx.save(model_of(body), path)
    return path


def test_a_gate_of_others_is_explained(tmp_path):
    summary = inspect_gates(saved(BOTTLENECK, tmp_path / "m.onnx"))
    (gate,) = summary.gates
    assert (summary.recognised, summary.left, summary.notes) == (1, [], [])
    assert (gate.name, gate.branches, gate.computes) == ("t", 2, [0])
    assert (gate.rule, gate.tie, gate.granularity) == ("'g' >= 0.3", "computes", "pixel")
    assert [(row.name, row.branches, row.how, row.derived) for row in gate.perforates] == [
        ("c1", [0], "unread", True),
        ("c2", [0], "unread", False),
        ("c3", [0], "masked", False),
    ]
    (stem,) = gate.dense
    assert (stem.name, stem.op, stem.why) == ("stem", "Conv", "it is an output of the model")


def test_the_portable_model_and_the_bundle_say_the_same(tmp_path):
    theirs = saved(BOTTLENECK, tmp_path / "m.onnx")
    wanted = inspect_gates(theirs).gates
    ours = tmp_path / "ours.onnx"
    onnx.save(recognise(onnx.load(theirs)), ours)
    found = inspect_gates(ours)
    assert (found.recognised, found.gates) == (0, wanted)
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((1, c, 8, 9), np.float32) for name, c in (("x", 3), ("g", 1))}
    build(theirs, tmp_path / "m.pagbundle", engine="onnxruntime", inputs=inputs)
    (gate,) = inspect_gates(tmp_path / "m.pagbundle").gates
    assert gate.density == list(open_bundle(tmp_path / "m.pagbundle").manifest.gates[0].density)
    assert (gate.rule, gate.perforates) == (wanted[0].rule, wanted[0].perforates)


CONV = f"c = Conv {SAME} (x, w, b) y = Mul (c, m)"
RULES = {
    "g > 0": ("t = Greater (g, zero) m = Cast <to = 1> (t)", "'g' > 0", "skips", [1], "pixel"),
    "g < 0": ("t = Less (g, zero) m = Cast <to = 1> (t)", "'g' < 0", "skips", [1], "pixel"),
    "g <= 0": (
        "t = LessOrEqual (g, zero) m = Cast <to = 1> (t)", "'g' <= 0", "computes", [0], "pixel",
    ),
    "not g < 0": (
        "s = Less (g, zero) t = Not (s) m = Cast <to = 1> (t)", "'g' >= 0", "computes", [0],
        "pixel",
    ),
    "sigmoid": (
        "p = Sigmoid (g) t = Greater (p, half) m = Cast <to = 1> (t)",
        "'p' (Sigmoid) > 0.5", "skips", [1], "pixel",
    ),
    "m0 >= m1": (
        "l0, l1 = Split <axis = 1> (l) t = GreaterOrEqual (l0, l1) m = Cast <to = 1> (t)",
        "'l0' (Split) >= 'l1' (Split)", "computes", [0], "pixel",
    ),
    "argmax of softmax": (
        "p = Softmax <axis = 1> (l) i = ArgMax <axis = 1> (p) m = Cast <to = 1> (i)",
        "argmax of 'p' (Softmax)", "skips", [1], "pixel",
    ),
    "per image": (
        "p = ReduceMean <axes = [2, 3]> (l) i = ArgMax <axis = 1> (p) m = Cast <to = 1> (i)",
        "argmax of 'p' (ReduceMean)", "skips", [1], "image",
    ),
    "patches": (
        "s = Shape (x) o = Slice (s, a0, a1) hw = Slice (s, a2, a4)"
        " q = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (g)"
        " t = Greater (q, zero) f = Cast <to = 1> (t) n1 = Concat <axis = 0> (o, a1, hw)"
        ' m = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",'
        ' nearest_mode = "floor"> (f, , , n1)',
        "'q' (AveragePool) > 0", "skips", [1], "patch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_rule_the_tie_and_the_granularity(name, tmp_path):
    body, rule, tie, computes, granularity = RULES[name]
    (gate,) = inspect_gates(saved(f"{body} {CONV}", tmp_path / "m.onnx")).gates
    assert (gate.rule, gate.tie, gate.computes) == (rule, tie, computes)
    assert gate.granularity == granularity
    assert [row.name for row in gate.perforates] == ["c"]


def test_what_stays_behind_a_gate_has_its_reason(tmp_path):
    body = f"""
        t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)
        c1 = Conv {SAME} (x, w1, b)
        a = GlobalAveragePool (c1)
        e = Sigmoid (a)
        s = Mul (c1, e)
        c2 = Conv {SAME} (s, w, b)
        p = Mul (c2, m)
        d = ConvTranspose {SAME} (x, w)
        q = Mul (d, m)
        u = Sigmoid (g)
        f = Conv {SAME} (x, w2, b)
        v = Mul (f, u)
        z1 = Add (p, q)
        y = Add (z1, v)
    """.replace(f"{SAME} (x, w1, b)", f"{POINT} (x, w1, b)")
    summary = inspect_gates(saved(body, tmp_path / "m.onnx"))
    (gate,) = summary.gates
    assert [row.name for row in gate.perforates] == ["c2"]
    assert {row.name: row.why for row in gate.dense} == {
        "c1": "'a' (GlobalAveragePool) reads every pixel",
        "d": "a transposed convolution is never perforated",
    }
    assert ("v", "its mask 'u' is not provably zeros and ones") in [
        (row.name, row.why) for row in summary.left
    ]


def test_a_mask_that_is_no_decision_of_the_model_is_listed(tmp_path):
    body = f"""
        t = GreaterOrEqual (g, third)
        u = Squeeze (t, a1)
        m = Cast <to = 1> (u)
        c = Conv {SAME} (x, w, b)
        y = Mul (c, m)
    """
    summary = inspect_gates(saved(body, tmp_path / "m.onnx"))
    why = "its mask 'm' lacks axes: its images meet the map's channels"
    assert summary.gates == []
    assert [(row.name, row.why) for row in summary.left] == [("y", why)]


def test_the_command(tmp_path, model_file):
    path = saved(BOTTLENECK, tmp_path / "m.onnx")
    code, out, err = call("inspect", path, "--gates")
    assert code == 0 and not err
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "1 gate, 1 of them in plain ONNX"
    assert "t: 2 branches, one decision for each pixel" in lines
    assert "decided by 'g' >= 0.3; a tie: computes" in lines
    assert any(line.startswith("c1") and "dilated, resized or joined" in line for line in lines)
    assert any(line.startswith("stem") and "it is an output" in line for line in lines)
    answer = json.loads(call("inspect", path, "--gates", "--json")[1])
    assert [row["name"] for row in answer["gates"][0]["perforates"]] == ["c1", "c2", "c3"]
    code, out, _ = call("inspect", model_file, "--gates")
    assert code == 0 and "in plain ONNX" not in out


def test_what_shows_no_gates_is_refused(tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(plan_bytes())
    refused(2, "does not show its gates. Give the ONNX file", "inspect", path, "--gates")
    refused(2, "There is no file", "inspect", tmp_path / "none.onnx", "--gates")
