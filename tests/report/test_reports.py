"""The reports of the commands, as files and in a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from pagdeploy.errors import UsageError
from pagdeploy.measure.latency import Effort
from pagdeploy.verbs.build import build
from pagdeploy.verbs.inspect.page import write_report
from pagdeploy.verbs.profile import profile
from pagdeploy.verbs.profile.request import Reports, Sweep
from pagdeploy.verbs.verify import verify
from tests.cli.test_commands import call
from tests.conftest import gated_model
from tests.report.browser import visiting
from tests.report.test_html import Read

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>$x^{"
COMMANDS = ("verify", "profile", "inspect")


def _evil_model() -> onnx.ModelProto:
    """The gated model with markup in the names of its nodes, values, inputs and outputs."""
    model = gated_model()
    renamed = {v.name: f"{v.name}{EVIL}" for v in (*model.graph.input, *model.graph.output)}
    renamed |= {name: f"{name}{EVIL}" for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        node.name = f"{node.name}{EVIL}"
        for values in (node.input, node.output):
            values[:] = [renamed.get(name, name) for name in values]
    for value in (*model.graph.input, *model.graph.output):
        value.name = renamed[value.name]
    model.producer_name = EVIL
    return model


@pytest.fixture(scope="module", params=["tame", "evil"])
def reports(request, tmp_path_factory) -> dict[str, Path]:
    """A report of each command, of a bundle of the gated model."""
    folder = tmp_path_factory.mktemp(request.param)
    model = gated_model() if request.param == "tame" else _evil_model()
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    bundle = folder / "m.pagbundle"
    name = model.graph.input[0].name
    image = np.random.default_rng(0).random((1, 3, 20, 24), np.float32)
    build(folder / "m.onnx", bundle, lowering="gather", inputs={name: image})
    paths = {command: folder / f"{command}.html" for command in COMMANDS}
    assert verify(bundle, html=paths["verify"]).passed
    little = Effort(iterations=2, warm_up_ms=0, duration_s=0.01)
    profile(bundle, effort=little, sweep=Sweep([0.2, 0.8]), reports=Reports(html=paths["profile"]))
    write_report(paths["inspect"], bundle)
    return paths


@pytest.mark.parametrize("command", COMMANDS)
def test_reports_stand_alone_and_escape_what_models_say(reports, command):
    text = reports[command].read_text(encoding="utf-8")
    page = Read(text)
    assert page.open == [] and page.handlers == []
    assert page.tags.count("script") == 1, "the page's own"
    assert all(each.startswith(("#", "data:image/png;base64,")) for each in page.addresses)
    assert "://" not in text and "alert(1)</script>" not in text.replace("&lt;", "")
    assert text.count("<script") == 1


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("command", COMMANDS)
def test_reports_in_a_browser(reports, command, width):
    with visiting(reports[command], width) as visit:
        assert visit.faults == [] and visit.requests == []
        assert visit.overflow() <= 0
        buttons = visit.page.locator("table button")
        assert buttons.count() > 0
        at = visit.page.evaluate(
            "[...document.querySelectorAll('table')].findIndex(t => t.querySelector('button'))"
        )
        before = visit.column(at, 0)
        buttons.first.click()
        rising = visit.column(at, 0)
        buttons.first.click()
        falling = visit.column(at, 0)
        assert sorted(rising) == sorted(before) and rising == falling[::-1]
        assert len(set(before)) < 2 or rising != falling
        assert visit.faults == [] and visit.requests == []


def test_numbers_sort_as_numbers_and_what_is_empty_stays_last(tmp_path):
    from pagdeploy.report.html import table
    from pagdeploy.report.page import Page, Section, write_page

    rows = [["a", 10.0], ["b", ""], ["c", 9.0], ["d", 1e-7], ["e", float("inf")]]
    page = Page("t", "l", sections=[Section("s", [table(["name", "ms"], rows)])])
    write_page(tmp_path / "t.html", page)
    with visiting(tmp_path / "t.html", 390) as visit:
        button = visit.page.locator("th button").nth(1)
        button.click()
        assert visit.column(0, 0) == ["d", "c", "a", "e", "b"]
        assert visit.page.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
        button.click()
        assert visit.column(0, 0) == ["e", "a", "c", "d", "b"]


def test_the_policy_stops_what_would_get_past_the_escaping(tmp_path, reports):
    text = reports["inspect"].read_text(encoding="utf-8")
    planted = "<script>console.log('ran')</script><img src='https://example.org/x.png'>"
    (tmp_path / "t.html").write_text(text.replace("<h1>", f"{planted}<h1>"), encoding="utf-8")
    with visiting(tmp_path / "t.html", 390) as visit:
        assert "ran" not in visit.faults
        assert len([f for f in visit.faults if "Content Security Policy" in f]) == 2


def test_verify_tells_everything_twice_alike(model_file, tmp_path):
    texts = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.html"
        verify(model_file, precision="fp16", html=path, command="pagdeploy verify m.onnx")
        texts.append(path.read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    for words in (
        "ponder map",
        "node s1",
        "SHA-256 of the file",
        "near a tie",
        "pagdeploy verify m",
    ):
        assert words in texts[0]


def test_a_failure_is_told_first(bundle, tmp_path, monkeypatch):
    from pagdeploy.verbs import cases

    original = cases.run_lowered

    def broken(model, inputs):
        return {n: a * 1.01 if n == "y" else a for n, a in original(model, inputs).items()}

    monkeypatch.setattr(cases, "_runner_of", lambda *_: broken)
    result = verify(bundle, html=tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not result.passed and "<strong>FAILED </strong>Output &#x27;y&#x27; differs" in text
    assert "beyond the bound" in text


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(bundle, tmp_path):
    for path in (tmp_path / "none" / "r.html", tmp_path, bundle / "r.html"):
        for command in (lambda p: verify(bundle, html=p), lambda p: write_report(p, bundle)):
            with pytest.raises(UsageError):
                command(path)
    assert not list(tmp_path.glob("*.html"))


def test_a_plan_and_a_library_have_reports(tmp_path):
    from tests.engines.nvidia.toolbox import plan_bytes

    plan = tmp_path / "m.engine"
    plan.write_bytes(plan_bytes(version=(8, 6, 1, 6)))
    write_report(tmp_path / "r.html", plan)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "8.6.1.6" in text and "SHA-256 of the file" in text and Read(text).open == []


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_the_commands_write_reports(bundle, tmp_path, command):
    path = tmp_path / "r.html"
    code, out, err = call(command, bundle, "--html", path)
    assert code == 0 and f"wrote {path}" in out, err
    assert Read(path.read_text(encoding="utf-8")).open == []
    code, _, err = call(command, bundle, "--html", bundle / "r.html")
    assert code == 2 and "sealed" in err


def test_layers_and_the_search_for_a_fault_are_told(gather_bundle, tmp_path):
    path = tmp_path / "r.html"
    result = verify(gather_bundle, layers=True, bisect=True, against="dense", html=path)
    text = path.read_text(encoding="utf-8")
    assert result.layers and all(f"<td>{layer.value}</td>" in text for layer in result.layers)
    for words in ("None was found", "Held to the dense lowering: the two agree."):
        assert words in text


@pytest.mark.parametrize("width", [390, 1280])
def test_a_fault_its_layers_and_what_was_found_are_shown(width, tmp_path):
    """A convolution overflows float16, which its layer, the outputs and the findings tell."""
    from tests import faults

    model = faults.network()
    faults.scale_weight(model, "refine2_w", 2.0**17)
    faults.scale_weight(model, "refine3_w", 0.0)
    faults.scale_weight(model, "head_w", 2.0**-17)
    onnx.save(model, tmp_path / "m.onnx")
    page = tmp_path / "r.html"
    shapes = {"image": (1, 3, 14, 18)}
    result = verify(
        tmp_path / "m.onnx", shapes=shapes, precision="fp16", layers=True, bisect=True, html=page
    )
    assert not result.passed and result.fault is not None and result.findings
    with visiting(page, width) as visit:
        text = visit.page.inner_text("body")
        for words in (result.reason, result.fault.reason, *result.findings):
            assert words in text
        failed = visit.page.locator("tr", has_text="refine2 (PerforatedConv)").locator(".bad")
        assert failed.first.inner_text() == "FAILED"
        headings = visit.page.locator("h2").all_inner_texts()
        assert {"The first fault", "Layers", "Warnings"} <= set(headings)
        assert visit.faults == [] and visit.requests == [] and visit.overflow() <= 0
