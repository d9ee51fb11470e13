"""Where the savings went, the roofline, the worst case, and two bundles against each other."""

from __future__ import annotations

import json

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagdeploy.bundle import SAMPLE_INPUTS, open_bundle
from pagdeploy.engines.ort_native import VARIABLE
from pagdeploy.errors import UsageError
from pagdeploy.measure.bootstrap import Interval
from pagdeploy.measure.latency import Effort
from pagdeploy.verbs.profile import profile
from pagdeploy.verbs.profile.against import verdict_of
from pagdeploy.verbs.profile.candidates import load_candidates
from pagdeploy.verbs.profile.request import Reports, Sweep
from pagdeploy.verbs.profile.result import ENGINE, MASKED, PLAIN, OpRow
from pagdeploy.verbs.profile.roofline import compulsory_bytes, probe_machine, support
from pagdeploy.verbs.profile.savings import find_savings, strike_balance
from pagdeploy.verbs.profile.tables import against_line, tables
from tests.cli.test_commands import call, refused
from tests.native import op_library
from tests.verbs.test_profile import CONV3, LITTLE, SIZE, THREE_WAY, built, gated_model


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    return built(gated_model(), tmp_path_factory.mktemp("gathered"), lowering="gather")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return built(gated_model(), tmp_path_factory.mktemp("dense"), lowering="dense")


@pytest.fixture(scope="module")
def result(gathered, dense, tmp_path_factory):
    layers = tmp_path_factory.mktemp("layers") / "l.json"
    nodes = layers.with_name("p.json")
    found = profile(
        gathered,
        effort=Effort(iterations=36, warm_up_ms=0, duration_s=0),
        sweep=Sweep(worst=True),
        against=dense,
        threads=1,
        reports=Reports(layers=layers, profile=nodes),
    )
    return found, json.loads(layers.read_text()), json.loads(nodes.read_text())


def perforated(name, gate, dense_ms, engine_ms, dense_macs, engine_macs):
    share = engine_macs / dense_macs
    return OpRow(name, "perforated", dense_ms, engine_ms, gate, share, dense_macs, engine_macs)


def test_what_the_arithmetic_allows():
    rows = [
        perforated("a", "g", 3.0, 1.0, 100, 25),
        perforated("p0", "k", 2.0, 0.0, 100, 30),  # in the node of the next one
        perforated("p1", "k", 2.0, 1.5, 100, 50),
        perforated("lone", "m", 2.0, 1.0, 100, 50),
        OpRow("g", "gate", 0.1, 0.2),
        OpRow("Conv", "other", 5.0, 4.0),
    ]
    alone, chain, lone = savings = find_savings(rows, {"a": 2.0, "p1": 1.0})
    assert (alone.name, alone.plain_ms, alone.allowed_ms, alone.gap_ms) == ("a", 2.0, 0.5, 0.5)
    # The plain network has one of the two branches: 100 multiply-adds in 1 ms.
    assert (chain.name, chain.fused, chain.plain_ms) == ("p1", ["p0"], 1.0)
    assert (chain.dense_macs, chain.needed_macs, chain.density) == (200, 80, 0.4)
    assert (chain.masked_ms, chain.engine_ms) == (4.0, 1.5)
    assert (chain.allowed_ms, chain.gap_ms) == pytest.approx((0.8, 0.7))
    assert (lone.plain_ms, lone.allowed_ms) == (None, 1.0), "the masked network's speed"
    balance = strike_balance(rows, savings, plain_total=9.0)
    assert (balance.engine_ms, balance.gates_ms) == pytest.approx((7.7, 0.2))
    assert balance.possible_ms == pytest.approx(3.0 - 2.3)
    assert balance.others_ms == pytest.approx(4.0 - 6.0)
    assert summed(balance) == pytest.approx(balance.engine_ms)


def summed(balance):
    saved = balance.plain_ms - balance.possible_ms
    return saved + balance.gap_ms + balance.gates_ms + balance.others_ms


def test_a_real_profile_is_balanced(result):
    found, _, _ = result
    rows = [row for row in found.ops if row.kind == "perforated"]
    assert sum(saving.dense_macs for saving in found.savings) == sum(r.dense_macs for r in rows)
    assert sum(saving.engine_ms for saving in found.savings) == pytest.approx(
        sum(row.engine_ms for row in rows)
    )
    names = [name for saving in found.savings for name in (*saving.fused, saving.name)]
    assert names == [row.name for row in rows]
    by_name = {saving.name: saving for saving in found.savings}
    assert by_name["node a"].plain_ms > 0 and by_name["node y"].plain_ms > 0
    assert found.balance is not None and found.balance.plain_ms > 0
    assert summed(found.balance) == pytest.approx(found.balance.engine_ms)
    assert found.balance.engine_ms == pytest.approx(sum(row.engine_ms for row in found.ops))


def test_the_roof_is_the_lower_of_two(result):
    found, _, _ = result
    assert found.peak is not None and found.peak.gpu == "not measured"
    assert found.roofline
    timed = {saving.name: saving for saving in found.savings}
    for point in found.roofline:
        slope = point.intensity * found.peak.gbytes
        assert point.roof_gflops == min(found.peak.gflops, slope)
        assert point.limit == ("memory" if slope < found.peak.gflops else "compute")
        assert point.operations == 2 * timed[point.name].needed_macs
        taken = point.operations / timed[point.name].engine_ms / 1e6
        assert point.gflops == pytest.approx(taken)
        assert point.share == pytest.approx(point.gflops / point.roof_gflops)


def test_the_machine_is_probed():
    peak = probe_machine(1)
    assert 0.1 < peak.gflops < 1e5 and 0.1 < peak.gbytes < 1e5


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(0, 3))


@settings(deadline=None, max_examples=50)
@given(SHAPES, SHAPES, st.integers(0, 2**32 - 1))
def test_the_support_is_what_brute_force_reads(rows, columns, seed):
    kernel, strides, dilations, pads = zip(rows, columns, strict=True)
    geometry = {
        "kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": [*pads, *pads],
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    size = 7, 9
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, d, p in zip(size, kernel, strides, dilations, pads, strict=True)
    ]
    active = rng.random((2, *out)) < 0.2
    wanted = np.zeros((2, *size), bool)
    for n, y, x in zip(*np.nonzero(active), strict=True):
        for ky, kx in np.ndindex(kernel):
            at = (
                y * strides[0] - pads[0] + ky * dilations[0],
                x * strides[1] - pads[1] + kx * dilations[1],
            )
            if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
                wanted[n, at[0], at[1]] = True
    np.testing.assert_array_equal(support(active, size, geometry), wanted)


def test_compulsory_bytes_count_each_number_once():
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
        g (float[1, 4, 5, 6] x, int32[1, 1, 5, 6] s, float[4, 4, 3, 3] w, float[4] b,
           float[1, 1, 1, 1] zero) => (float[1, 4, 5, 6] y, float[1, 4, 5, 6] z)
        {{
            y = {CONV3.format(mode=0, branch=1)} (x, s, w, b, x)
            z = {CONV3.format(mode=0, branch=0)} (x, s, w, b, y)
        }}"""
    )
    sizes = {"x": (1, 4, 5, 6), "w": (4, 4, 3, 3), "b": (4,), "y": (1, 4, 5, 6), "z": (1, 4, 5, 6)}
    one = np.zeros((1, 1, 5, 6), np.int32)
    one[0, 0, 2, 2] = 1
    y, z = model.graph.node
    kernel, plane = 4 * 4 * 9 + 4, 4 * 30
    # One pixel reads nine, all are written, 29 are copied; the selection is read.
    wanted = 4 * (9 * 4 + kernel + plane + 29 * 4) + 4 * 30
    assert compulsory_bytes([y], sizes, {"s": one}) == pytest.approx(wanted)
    none = 4 * (0 + plane + plane) + 4 * 30
    assert compulsory_bytes([y], sizes, {"s": 0 * one}) == pytest.approx(none)
    # Both branches in one node: x and the weights of both, no copy, one output.
    both = 4 * (plane + 2 * kernel + plane) + 4 * 30
    assert compulsory_bytes([y, z], sizes, {"s": one}) == pytest.approx(both)


def test_the_worst_case_is_the_slowest_of_what_was_tried(result):
    found, _, _ = result
    worst = found.worst
    assert worst is not None and "all active" in worst.tried and len(worst.tried) == 13
    assert worst.point.label in worst.tried
    assert "as it is" not in worst.tried and worst.over_request > 0
    assert worst.point.latency[ENGINE].runs == 36
    for name in (MASKED, PLAIN):
        ratio, label = worst.least_ratio[name]
        assert ratio <= worst.point.ratio[name] and label in worst.tried


def test_another_bundle_takes_turns(result, dense):
    found, _, _ = result
    against = found.against
    assert against is not None and against.bundle == str(dense) and against.lowering == "dense"
    assert against.own.runs == against.other.runs == 36 and against.speedup.rounds == 12
    assert against.speedup.ratio == against.other.median_ms / against.own.median_ms
    assert against.speedup.low <= against.speedup.ratio <= against.speedup.high
    assert against.verdict == verdict_of(against.speedup)
    assert "times as fast as m.pagbundle (95 % interval" in against_line(found)
    assert not any("different models" in note for note in found.notes)
    titles = [table.title for table in tables(found)]
    assert any(title.startswith("Against another bundle, in 12 rounds") for title in titles)
    assert any(title.startswith("Worst case of 13") for title in titles)


def test_verdicts():
    assert verdict_of(Interval(1.2, 1.1, 1.3, 20)) == "faster"
    assert verdict_of(Interval(0.8, 0.7, 0.9, 20)) == "slower"
    assert verdict_of(Interval(1.2, 0.9, 1.3, 20)) == "within noise"
    assert verdict_of(Interval(1.2, 1.1, 1.3, 9)) == "within noise", "too few rounds"


def test_bundles_of_other_inputs_or_models_are_told(gathered, bundle, tmp_path):
    other = built(gated_model().__class__.FromString(changed()), tmp_path)
    found = profile(gathered, effort=LITTLE, against=other)
    assert any("built from different models" in note for note in found.notes)
    assert any("too few to tell two bundles apart" in note for note in found.notes)
    inputs = {"image": np.zeros((1, 3, *SIZE), np.float32)}
    with pytest.raises(UsageError, match="is not a bundle"):
        profile(gathered, effort=LITTLE, inputs=inputs, against=tmp_path)


def changed() -> bytes:
    model = gated_model()
    model.graph.doc_string = "another"
    return model.SerializeToString()


def test_layers_have_the_names_of_the_profile(result):
    _, layers, profiled = result
    known = {layer["Name"]: layer for layer in layers["Layers"]}
    timed = {row["name"] for row in profiled[1:]}
    assert timed and {name for name in timed if name not in known} == set()
    for layer in known.values():
        assert {"Name", "LayerType", "Inputs", "Outputs"} <= layer.keys()
        assert all(port["Name"] for port in (*layer["Inputs"], *layer["Outputs"]))


def test_forced_gates_are_still_waited_for(gathered):
    candidates = load_candidates(open_bundle(gathered), threads=1, host_code=False)
    own = candidates.decisions(open_bundle(gathered).arrays(SAMPLE_INPUTS))
    assert own.keys() == {"s1", "s2", "s3"}
    for name, model in candidates.forced().models.items():
        consumed = {value for node in model.graph.node for value in node.input}
        shown = {value.name for value in model.graph.output}
        assert name == PLAIN or {"s1.own", "s2.own", "s3.own"} <= consumed
        assert shown == {"y"}


def test_a_bundle_brings_its_library(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(op_library()))
    path = built(gated_model(), tmp_path, lowering="native")
    monkeypatch.setenv(VARIABLE, "off")
    with pytest.raises(UsageError, match="--allow-host-code"):
        profile(path, effort=LITTLE)
    found = profile(path, effort=LITTLE, sweep=Sweep([0.5]), allow_host_code=True, against=path)
    assert found.lowering == "native" and found.savings and found.roofline
    assert list(found.densities[0].ratio) == [MASKED, PLAIN]


def test_the_command(gathered, dense):
    little = ("--iterations", "1", "--warm-up", "0", "--duration", "0")
    code, out, err = call("profile", gathered, *little, "--against", dense, "--worst-case")
    assert code == 0, err
    for text in ("Where the savings went", "From the plain dense network", "Roofline: this machine",
                 "GPU: not measured", "Worst case of 13", "Against another bundle"):  # fmt: skip
        assert text in out
    assert THREE_WAY in out
    assert out.splitlines()[-1].endswith("the difference is within noise")
    refused(2, "is not a bundle", "profile", gathered, *little, "--against", gathered.parent)
