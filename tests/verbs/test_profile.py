"""A profile is consistent with itself and with the model: times are only compared to each other."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from pagdeploy.bundle import ENGINE_PLAN, SAMPLE_INPUTS, open_bundle, seal
from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.exporters.budget import add_budget
from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.gates import force_selections
from pagdeploy.manifest import Manifest, PlanInfo
from pagdeploy.measure.latency import Effort
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.derive import register_schemas
from pagdeploy.pipeline import lower
from pagdeploy.verbs.build import build
from pagdeploy.verbs.profile import charts, profile
from pagdeploy.verbs.profile.candidates import forced_inputs, load_candidates
from pagdeploy.verbs.profile.dense_twin import open_gates
from pagdeploy.verbs.profile.request import Reports, Sweep
from pagdeploy.verbs.profile.result import ENGINE, MASKED, PLAIN, ProfileResult
from pagdeploy.verbs.profile.sweep import forced_decisions
from pagdeploy.verbs.proof import run_lowered
from tests.engines.nvidia.toolbox import plan_bytes

ATTRIBUTES = "group = 1, mode = {mode}, branch = {branch}, activation = 1, alpha = 0.0"
CONV3 = f"""pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
    pads = [1, 1, 1, 1], dilations = [1, 1], {ATTRIBUTES}>"""
MODEL = f"""<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
profiled (float[n, 3, h, w] image) => (float[n, 4, h, w] y)
{{
    x = Conv <pads = [1, 1, 1, 1]> (image, stem, bias)
    l1 = Conv (x, gate2)
    s1 = pagdeploy.PAGGate (l1)
    a = {CONV3.format(mode=0, branch=1)} (x, s1, w1, bias, x)
    l2 = Conv (a, gate3)
    s2 = pagdeploy.PAGGate (l2)
    p0 = {CONV3.format(mode=0, branch=0)} (a, s2, w2, bias, a)
    p1 = {CONV3.format(mode=0, branch=1)} (a, s2, w3, bias, p0)
    l3 = Conv (image, gate1)
    s3 = pagdeploy.PAGGate (l3)
    y = {CONV3.format(mode=1, branch=1)} (p1, s3, w4, bias, x)
}}"""
# A convolution that is needed where a 3x3 window of another mask has an active pixel.
SUPPORT = f"""<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
support (float[n, 3, h, w] image) => (float[n, 4, h, w] y)
{{
    l1 = Conv (image, gate1)
    s1 = pagdeploy.PAGGate (l1)
    f1 = Cast <to = 1> (s1)
    grown = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (f1)
    wide = Cast <to = 6> (grown)
    x = Conv <pads = [1, 1, 1, 1]> (image, stem, bias)
    y = {CONV3.format(mode=0, branch=1)} (x, wide, w1, bias, x)
}}"""
BINARY, THREE_WAY = ("node s1", "node s3"), "node s2"
SIZE = (20, 24)
LITTLE = Effort(iterations=2, warm_up_ms=0, duration_s=0)
DENSITIES, BUDGETS = (0.0, 0.3, 1.0), (-1e9, 0.0, 1e9)


def gated_model(text: str = MODEL) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(text)
    shapes = {"stem": (4, 3, 3, 3), "bias": (4,), "gate1": (2, 3, 1, 1), "gate2": (2, 4, 1, 1)}
    shapes |= {"gate3": (3, 4, 1, 1), **{f"w{n}": (4, 4, 3, 3) for n in range(1, 5)}}
    for name, shape in shapes.items():
        weight = rng.standard_normal(shape, np.float32)
        if f" {name}" in text:
            model.graph.initializer.append(numpy_helper.from_array(weight, name))
    for node in model.graph.node:
        node.name = f"node {node.output[0]}"
    return attach_bodies(model)


def with_budget() -> onnx.ModelProto:
    register_schemas()
    model = ir.from_proto(onnx.shape_inference.infer_shapes(gated_model()))
    assert add_budget(model, "budget") == 2
    return attach_bodies(ir.to_proto(model))


def built(model: onnx.ModelProto, folder: Path, **options) -> Path:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    path = folder / "m.pagbundle"
    build(folder / "m.onnx", path, shapes={"image": [1, 3, *SIZE]}, engine="onnxruntime", **options)
    return path


@pytest.fixture(scope="module")
def gathered(tmp_path_factory) -> Path:
    """A bundle that gathers, with a budget; not to be changed."""
    return built(with_budget(), tmp_path_factory.mktemp("gathered"), lowering="gather")


@pytest.fixture(scope="module")
def written(gathered, tmp_path_factory) -> tuple[ProfileResult, Reports]:
    """A profile with every sweep and every report."""
    folder = tmp_path_factory.mktemp("reports")
    reports = Reports(
        times=folder / "t.json",
        profile=folder / "p.json",
        html=folder / "r.html",
        plot=folder / "r.png",
    )
    steps: list[tuple[str, int, int]] = []
    result = profile(
        gathered,
        effort=LITTLE,
        percentiles=(50, 99, 90),
        sweep=Sweep(DENSITIES, "blob", 7, BUDGETS),
        threads=1,
        reports=reports,
        progress=lambda *step: steps.append(step),
    )
    assert [number for _, number, _ in steps] == list(range(1, 7))
    assert {total for _, _, total in steps} == {6}
    return result, reports


def points(result: ProfileResult):
    return [result.request, *result.densities, *result.budgets]


def test_both_baselines_are_named_and_timed_as_often_as_the_engine(written):
    result, _ = written
    assert list(result.baselines) == [MASKED, PLAIN]
    assert "mask" in result.baselines[MASKED] and "without its gates" in result.baselines[PLAIN]
    for point in points(result):
        assert list(point.latency) == [ENGINE, MASKED, PLAIN]
        assert {found.runs for found in point.latency.values()} == {3}
        for name in (MASKED, PLAIN):
            quotient = point.latency[name].median_ms / point.latency[ENGINE].median_ms
            assert point.ratio[name] == quotient
        for found in point.latency.values():
            p50, p90, p99 = found.percentiles_ms.values()
            assert found.min_ms <= p50 <= p90 <= p99 <= found.max_ms
            assert p50 == pytest.approx(found.median_ms)
    assert result.machine["threads"] == "1" and result.texture == "blob"
    assert result.shapes == {"image": [1, 3, *SIZE], "budget": []}


def test_the_density_sweep_computes_what_was_asked_for(written):
    result, _ = written
    pixels = SIZE[0] * SIZE[1]
    assert [point.asked for point in result.densities] == list(DENSITIES)
    for point in result.densities:
        for gate in BINARY:
            assert abs(point.gates[gate][1] - point.asked) <= 1 / pixels
        assert point.density == pytest.approx(point.asked, abs=1 / pixels)
        assert point.gates[THREE_WAY] == pytest.approx(result.request.gates[THREE_WAY], abs=1.5e-2)
    ceilings = [point.ceiling[MASKED] for point in result.densities]
    assert ceilings == sorted(ceilings, reverse=True) and ceilings[0] > ceilings[-1]


def test_the_budget_sweep_goes_from_everything_to_nothing(written):
    result, _ = written
    assert [point.asked for point in result.budgets] == list(BUDGETS)
    all_on, as_trained, all_off = result.budgets
    assert (all_on.density, all_off.density) == (1.0, 0.0)
    assert 0 < as_trained.density < 1
    assert as_trained.gates == result.request.gates
    assert all_on.ceiling[PLAIN] < as_trained.ceiling[PLAIN] < all_off.ceiling[PLAIN]


def test_ceilings_are_quotients_of_multiply_adds(written, gathered):
    result, _ = written
    model = with_budget()
    selections = {"node s1": "s1", "node s2": "s2", "node s3": "s3"}
    shares = {selections[gate]: found for gate, found in result.request.gates.items()}
    cost = count_cost(model, {"image": (1, 3, *SIZE), "budget": ()}, shares)
    # Stem, three of the four perforated convolutions, and no gate.
    plain = SIZE[0] * SIZE[1] * 4 * 9 * (3 + 3 * 4)
    assert result.request.ceiling == {MASKED: cost.ceiling, PLAIN: plain / cost.sparse}


def test_ops_are_joined_with_gates_densities_and_multiply_adds(written):
    result, reports = written
    rows = {row.name: row for row in result.ops}
    gates = {"node a": "node s1", "node p0": THREE_WAY, "node p1": THREE_WAY, "node y": "node s3"}
    for name, gate in gates.items():
        row, branch = rows[name], 0 if name == "node p0" else 1
        assert (row.kind, row.gate) == ("perforated", gate)
        assert row.density == result.request.gates[gate][branch]
        assert row.dense_macs == SIZE[0] * SIZE[1] * 4 * 4 * 9
        assert row.engine_macs == pytest.approx(row.dense_macs * row.density)
        assert row.dense_ms > 0
        assert row.saved_ms == row.dense_ms - row.engine_ms
    # The branches of one gate may become one node, under the name of the last.
    assert all(rows[name].engine_ms > 0 for name in ("node a", "node p1", "node y"))
    assert {row.name for row in result.ops if row.kind == "gate"} == {*BINARY, THREE_WAY}
    assert "Conv" in {row.name for row in result.ops if row.kind == "other"}
    nodes = json.loads(reports.profile.read_text())[1:]
    total = sum(node["medianMs"] for node in nodes)
    assert sum(row.engine_ms for row in result.ops) == pytest.approx(total, abs=1e-3 * len(nodes))


def test_the_times_are_trtexecs(written):
    result, reports = written
    rows = json.loads(reports.times.read_text())
    assert len(rows) == result.request.latency[ENGINE].runs
    for row in rows:
        assert list(row) == [
            "startEnqMs", "endEnqMs", "startH2dMs", "endH2dMs", "startComputeMs", "endComputeMs",
            "startD2hMs", "endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs",
        ]  # fmt: skip
        took = row["endComputeMs"] - row["startComputeMs"]
        assert row["computeMs"] == pytest.approx(took, abs=1e-3)
        assert row["latencyMs"] == row["computeMs"] + row["h2dMs"] + row["d2hMs"]
    median = np.median([row["latencyMs"] for row in rows])
    assert median == pytest.approx(result.request.latency[ENGINE].median_ms, abs=1e-3)


def test_the_profile_is_trtexecs(written):
    result, reports = written
    head, *nodes = json.loads(reports.profile.read_text())
    assert head == {"count": result.request.latency[ENGINE].runs}
    assert all(
        list(node) == ["name", "timeMs", "averageMs", "medianMs", "percentage"] for node in nodes
    )
    assert sum(node["percentage"] for node in nodes) == pytest.approx(100, abs=1)
    assert len({node["name"] for node in nodes}) == len(nodes)


class Page(HTMLParser):
    """Collects what a page fetches or runs, and whether its tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)


def test_the_page_stands_alone(written):
    result, reports = written
    text = reports.html.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert all(address.startswith("#") for address in page.fetched), "nothing is fetched"
    assert not page.tags & {"link", "img", "iframe", "object"}
    assert "@import" not in text and "://" not in text
    assert text.count("<svg") == len(charts.inline_figures(result)) >= 5
    for words in (MASKED, PLAIN, "node p1", "blob", result.machine["processor"], "viewport"):
        assert words in text


def test_the_figure_is_a_picture(written):
    from PIL import Image

    with Image.open(written[1].plot) as picture:
        assert picture.format == "PNG" and picture.width == 840 and picture.height > 1000


def test_without_matplotlib_there_are_tables_and_one_line_says_so(gathered, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "find_spec", lambda name: None)
    reports = Reports(html=tmp_path / "r.html")
    result = profile(gathered, effort=LITTLE, reports=reports)
    (note,) = [note for note in result.notes if "matplotlib" in note]
    assert "pip install 'pagdeploy[report]'" in note
    text = reports.html.read_text(encoding="utf-8")
    assert Page(text).open == [] and "<svg" not in text and "<table>" in text
    with pytest.raises(EnvironmentProblem, match="Drawing a figure needs the package 'matplotlib'"):
        profile(gathered, effort=LITTLE, reports=Reports(plot=tmp_path / "r.png"))


def test_the_plain_dense_network_is_the_network_with_all_gates_open():
    model = gated_model()
    twin = lower(open_gates(model), "dense")
    assert {node.op_type for node in twin.graph.node} == {"Conv", "Relu", "Add"}
    assert sum(node.op_type == "Conv" for node in twin.graph.node) == 4
    image = np.random.default_rng(1).random((1, 3, *SIZE), np.float32)
    masks = {name: np.ones((1, 1, *SIZE), np.int32) for name in ("s1", "s2", "s3")}
    masked = force_selections(lower(model, "dense"), list(masks))
    wanted = run_lowered(masked, {"image": image, **masks})["y"]
    np.testing.assert_allclose(run_lowered(twin, {"image": image})["y"], wanted, rtol=1e-5)


def test_forced_sessions_compute_what_is_forced(gathered):
    bundle = open_bundle(gathered)
    inputs = bundle.arrays(SAMPLE_INPUTS)
    candidates = load_candidates(bundle, threads=1, host_code=False)
    own = candidates.decisions(inputs)
    forced = candidates.forced()
    (density, decided), *_ = forced_decisions(forced.gates, own, [0.4], "pag", seed=0)
    assert density == 0.4 and decided.keys() == own.keys()
    answers = [
        forced.sessions[n].run(forced_inputs(inputs, decided))["y"] for n in (ENGINE, MASKED)
    ]
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-4)
    free = candidates.sessions[ENGINE].run(inputs)["y"]
    assert not np.allclose(free, answers[0], rtol=1e-2, atol=1e-2)


def test_a_selection_that_no_gate_made_counts_with_its_own_density(tmp_path):
    path = built(gated_model(SUPPORT), tmp_path, lowering="gather")
    result = profile(path, effort=LITTLE, sweep=Sweep([0.1], "salt"))
    macs = SIZE[0] * SIZE[1] * np.array([2 * 3, 4 * 3 * 9, 4 * 4 * 9])  # gate, stem, y

    def share_of_y(ceiling: dict[str, float]) -> float:
        return (macs.sum() / ceiling[MASKED] - macs[:2].sum()) / macs[2]

    (row, *_) = result.ops
    assert (row.name, row.gate) == ("node y", "wide")
    assert row.density == pytest.approx(share_of_y(result.request.ceiling))
    (forced,) = result.densities
    # A window of nine pixels has an active one with a probability of 1 - 0.9^9 = 0.61.
    assert share_of_y(forced.ceiling) == pytest.approx(0.61, abs=0.1)


def test_other_inputs_are_profiled_when_asked(gathered):
    result = profile(gathered, effort=LITTLE, shapes={"image": [2, 3, 8, 9]})
    assert result.shapes == {"image": [2, 3, 8, 9], "budget": []}
    inputs = {"image": np.zeros((1, 3, 5, 5), np.float32), "budget": np.array(1e9, np.float32)}
    assert profile(gathered, effort=LITTLE, inputs=inputs).request.density == 0.0


def test_baselines_are_of_the_engines_precision(tmp_path):
    # A pattern may name a gate, which the plain dense network does not have.
    path = built(
        gated_model(), tmp_path, lowering="dense", precision="fp16", keep_fp32=["node l1", "node y"]
    )
    candidates = load_candidates(open_bundle(path), threads=1, host_code=False)
    for name in (ENGINE, MASKED, PLAIN):
        types = {
            tensor.data_type
            for tensor in candidates.models[name].graph.initializer
            if tensor.name.startswith("w1")
        }
        assert types == {onnx.TensorProto.FLOAT16}, name
    result = profile(path, effort=LITTLE)
    assert result.precision == "fp16" and list(result.request.ratio) == [MASKED, PLAIN]


def test_a_plan_needs_its_gpu_and_says_so(bundle):
    (bundle / "engine.onnx").unlink()
    (bundle / ENGINE_PLAN).write_bytes(plan_bytes(version=(10, 15, 1, 29)))
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_text())
    changes = {"flavour": "tensorrt", "version": "10.15.1.29", "file": ENGINE_PLAN,
               "plan": PlanInfo(profiles=[])}  # fmt: skip
    engine = manifest.engine.model_copy(update=changes)
    seal(bundle, manifest.model_copy(update={"engine": engine}))
    with pytest.raises(EnvironmentProblem, match="tensorrt"):
        profile(bundle, effort=LITTLE)
    with pytest.raises(UsageError, match="--density needs an engine that onnxruntime runs"):
        profile(bundle, effort=LITTLE, sweep=Sweep(densities=[0.5]))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"effort": Effort(iterations=0)}, "number of iterations"),
        ({"effort": Effort(warm_up_ms=-1)}, "warm-up"),
        ({"effort": Effort(duration_s=float("inf"))}, "duration"),
        ({"percentiles": [0]}, "list of percentiles"),
        ({"percentiles": []}, "list of percentiles"),
        ({"sweep": Sweep(densities=[1.5])}, "list of densities"),
        ({"sweep": Sweep(densities=[float("nan")])}, "list of densities"),
        ({"sweep": Sweep(budgets=[float("nan")])}, "list of budgets"),
        ({"sweep": Sweep(texture="x")}, "texture cannot be right. Choose one of: salt, pag"),
        ({"reports": Reports(plot=Path("r.doc"))}, "names no format of a figure. Choose one of"),
        ({"reports": Reports(html=Path("no/r.html"))}, "The folder no does not exist"),
        ({"sweep": Sweep(budgets=[1.0])}, "no budget input. Export it with --budget-input"),
    ],
)
def test_requests_that_cannot_be_right_are_refused(bundle, asked, text):
    with pytest.raises(UsageError, match=text):
        profile(bundle, **asked)


def test_nothing_is_written_into_a_bundle_nor_left_by_a_failure(bundle, tmp_path):
    with pytest.raises(UsageError, match="lies inside the bundle"):
        profile(bundle, reports=Reports(html=bundle / "r.html"))
    reports = Reports(times=tmp_path / "t.json", html=tmp_path / "r.html")
    with pytest.raises(UsageError, match="no input named 'x'"):
        profile(bundle, inputs={"x": np.zeros(1, np.float32)}, reports=reports)
    assert [path.name for path in tmp_path.iterdir()] == ["m.pagbundle"]
