"""The benchmark of half precision: what its lines say, and the networks that it verifies."""

from __future__ import annotations

import importlib

import pytest

from tests.house.tree import REPOSITORY

pytest.importorskip("torch")

# Decisions for pixels, one that reads a difference of two close numbers, and images behind an If.
TELLING = ("PAG (3x3 gated)", "SkipNet", "LAUDNet (layers)")


@pytest.fixture(scope="module")
def half():
    """The benchmark as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "bench"))
        return importlib.import_module("half_precision")


def test_a_line_tells_the_worst_of_every_form(half):
    rows = [
        half.Row("net", "fp16, gather", True, 1000, 1, 0, 0.1, 0.2, 30, 0.5, "a"),
        half.Row("net", "bf16, dense", True, 1000, 7, 0, 0.3, 0.1, 40, 0.4, "b"),
    ]
    assert half.summary(rows) == "| net | 1,000 | 1 | 7 | 0 | 0.30 | 0.20 | 40 | 0.50 | yes |"
    assert half.summary(rows[1:]).startswith("| net | 1,000 | - | 7 |")
    failed = half.Row("net", "fp16, dense", False, 1000, 0, 2, reason="it differs")
    assert half.summary([*rows, failed]).endswith(" | NO fp16, dense: it differs |")


def test_a_network_that_nobody_knows_is_refused(half, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["half_precision.py", "--only", "PAG"])
    with pytest.raises(SystemExit):
        half.main()
    assert "no network is called 'PAG'" in capsys.readouterr().err


def judged(half, name, folder, precisions, lowerings):
    rows = list(half.rows_of(name, folder, precisions, lowerings))
    for row in rows:
        assert row.passed, f"{row.form}: {row.reason}"
        assert row.unexplained == 0 and row.layers > 0
        assert 0 < row.layer <= 1 and 0 < row.output <= 1 and row.margin <= 1
    return rows


@pytest.mark.parametrize("name", TELLING)
def test_a_healthy_network_passes_layer_by_layer(half, name, tmp_path):
    (row,) = judged(half, name, tmp_path, ["bf16"], ["gather"])
    assert row.form == "bf16, gather" and row.decisions > 0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_each_form_of_a_network_passes(half, precision, tmp_path):
    """As files and, where onnxruntime has the precision, as bundles; the benchmark takes all."""
    rows = judged(half, "SACT", tmp_path, [precision], half.LOWERINGS)
    assert len(rows) == (4 if precision == "fp16" else 2)
