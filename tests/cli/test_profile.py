"""The command shows what the profile found, and takes trtexec's spelling."""

from __future__ import annotations

import json

import numpy as np

from tests.cli.test_commands import call, refused
from tests.verbs.test_profile import built, with_budget

LITTLE = ("--iterations", "1", "--warm-up", "0", "--duration", "0")


def test_the_tables_name_the_baselines_and_what_was_written(bundle, tmp_path):
    page = tmp_path / "r.html"
    code, out, err = call("profile", bundle, *LITTLE, "--density", "0.5,1", "--html", page)
    assert code == 0, err
    assert "[1/5] load" in err and "[4/5] time 2 densities" in err
    assert "Latency in ms at a mean density of" in out and "Forced decisions (pag)" in out
    assert "Where the time goes" in out and "node a" in out and "node s1" in out
    assert "masked dense: the same function" in out and "plain dense: the network without" in out
    assert f"wrote {page}" in out and page.is_file()
    last = out.splitlines()[-1]
    assert "times as fast as the masked dense network" in last and "plain dense network" in last


def test_json_is_the_whole_result(bundle):
    code, out, err = call("profile", bundle, *LITTLE, "--percentile", "50,99.9", "--json")
    assert code == 0 and not err
    answer = json.loads(out)
    assert list(answer["baselines"]) == ["masked dense", "plain dense"]
    latency = answer["request"]["latency"]
    assert list(latency) == ["engine", *answer["baselines"]]
    assert list(latency["engine"]["percentiles_ms"]) == ["50", "99.9"]
    assert answer["effort"] == {"iterations": 1, "warm_up_ms": 0.0, "duration_s": 0.0}
    assert answer["densities"] == [] and {row["kind"] for row in answer["ops"]} == {
        "perforated", "gate", "other",
    }  # fmt: skip


def test_trtexecs_spelling_is_taken(bundle, tmp_path):
    times, nodes = tmp_path / "t.json", tmp_path / "p.json"
    code, _, err = call(
        "profile", bundle, "--iterations=4", "--warmUp=0", "--duration=0", "-q",
        f"--exportTimes={times}", f"--exportProfile={nodes}",
    )  # fmt: skip
    assert code == 0, err
    assert len(json.loads(times.read_text())) == 6, "four runs, in turns of three"
    assert json.loads(nodes.read_text())[0] == {"count": 6}


def test_a_budget_is_a_number_to_run_and_a_sweep_to_profile(tmp_path):
    bundle = built(with_budget(), tmp_path, lowering="dense")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1, 3, 8, 9), np.float32))
    image = ("--input", f"image={tmp_path}/x.npy")
    for budget, selection in (("-1e9", 1), ("inf", 0)):
        code, out, err = call("run", bundle, *image, "--input", f"budget={budget}", "--json")
        assert code == 0, err
        (row,) = [row for row in json.loads(out) if row["name"] == "s1"]
        assert (row["min"], row["max"]) == (selection, selection)
    refused(2, "The input 'budget' is missing. Give every input", "run", bundle, *image)
    code, out, err = call("profile", bundle, *LITTLE, "--budget", "-1e9,1e9", "--json")
    assert code == 0, err
    assert [point["density"] for point in json.loads(out)["budgets"]] == [1.0, 0.0]
    assert call("verify", bundle, *image, "--input", "budget=0.5")[0] == 0


def test_bad_requests_are_refused(bundle):
    refused(2, "numbers of --density cannot be read: '0.1;1'", "profile", bundle, "--density=0.1;1")
    refused(2, "list of densities cannot be right", "profile", bundle, "--density", "2")
    refused(2, "no budget input. Export it", "profile", bundle, *LITTLE, "--budget", "-1,0,1")
    refused(2, "Choose one of: salt, pag, blob, block", "profile", bundle, "--texture", "x")
    refused(2, "is not a bundle", "profile", bundle.parent)
