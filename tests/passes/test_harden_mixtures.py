"""What is a soft mixture, and that a hardened one is what its gate says."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from pagdeploy import pipeline
from pagdeploy.graph.mixtures import mixtures_of
from pagdeploy.passes import harden_mixtures
from tests.compare import assert_close
from tests.models import run_onnxruntime
from tests.passes.blocks import expected

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BRANCHES = [
    "a = Conv (x, v)", "ra = Relu (a)", "b = Conv <pads = [1, 1, 1, 1]> (x, w)", "rb = Relu (b)",
]  # fmt: skip
CUT = "p0, p1 = Split <axis = 1> (p, cut)"
MIXED = ["a0 = Mul (ra, p0)", "b1 = Mul (p1, rb)", "y = Add (a0, b1)"]
SOFTMAX = ["p = Softmax <axis = 1> (l)", CUT]

FORMS = {
    "softmax": [*SOFTMAX, *BRANCHES, *MIXED],
    "temperature": ["t = Div (l, two)", "p = Softmax <axis = 1> (t)", CUT, *BRANCHES, *MIXED],
    "sliced": [
        "p = Softmax <axis = -3> (l)", "p0 = Slice (p, i0, i1, i1)", "p1 = Slice (p, i1, i2, i1)",
        *BRANCHES, *MIXED,
    ],
    "sigmoid and the rest": [
        "p0 = Sigmoid (g)", "p1 = Sub (one, p0)", *BRANCHES, *MIXED,
    ],
    "soft mask": ["p0 = Sigmoid (g)", *BRANCHES[:2], "y = Mul (ra, p0)"],
    "hard sigmoid": ["p0 = HardSigmoid (g)", *BRANCHES[:2], "y = Mul (ra, p0)"],
}  # fmt: skip

NONE = {
    "an attention of channels": [
        "m = GlobalAveragePool (x)", "p = Sigmoid (m)", *BRANCHES[:2], "y = Mul (ra, p)",
    ],
    "an activation": ["p = Sigmoid (x)", "y = Mul (x, p)"],
    "class probabilities": ["p = Softmax <axis = 1> (l)", "y = Concat <axis = 1> (p, x)"],
    "a sum with weights": ["p = Sigmoid (g)", "y = Add (x, p)"],
    "constants weighed": ["p = Sigmoid (g)", "q = Mul (p, two)", "y = Add (x, q)"],
    "read otherwise behind a slice": [
        *SOFTMAX, "a = Conv (x, v)", "a0 = Mul (a, p0)", "c = Concat <axis = 1> (a0, p0)",
        "y = Concat <axis = 1> (c, p1)",
    ],
}  # fmt: skip


def soft_model(lines: list[str], outputs: str = "float y") -> onnx.ModelProto:
    """A model of x, g (one score a pixel) and l (two)."""
    inputs = "float[n, 3, h, w] x, float[n, 1, h, w] g, float[n, 2, h, w] l"
    model = onnx.parser.parse_model(
        f"{HEAD} soft ({inputs}) => ({outputs.replace('float ', 'float[n, c, h, w] ')})"
        f" {{ {chr(10).join(lines)} }}"
    )
    rng = np.random.default_rng(0)
    constants = {
        "v": rng.standard_normal((3, 3, 1, 1)).astype(np.float32),
        "w": rng.standard_normal((3, 3, 3, 3)).astype(np.float32),
        "one": np.float32(1), "two": np.float32(2), "cut": np.array([1, 1]),
        "i0": np.array([0]), "i1": np.array([1]), "i2": np.array([2]),
    }  # fmt: skip
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model


def feed_of(seed: int, size: tuple[int, int] = (6, 5)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"x": (2, 3, *size), "g": (2, 1, *size), "l": (2, 2, *size)}
    # Whole scores: many ties.
    return {
        "x": rng.standard_normal(shapes["x"]).astype(np.float32),
        "g": rng.integers(-1, 2, shapes["g"]).astype(np.float32),
        "l": rng.integers(-1, 2, shapes["l"]).astype(np.float32),
    }


def hardened(model: onnx.ModelProto) -> onnx.ModelProto:
    module = pipeline.read_module(model)
    assert harden_mixtures.run(module) == 1
    result = ir.to_proto(module)
    onnx.checker.check_model(result, full_check=True)
    return result


def branches_of(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the two branches compute."""
    lines = [*BRANCHES, "ya = Identity (ra)", "yb = Identity (rb)"]
    return run_onnxruntime(soft_model(lines, "float ya, float yb"), feed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_the_decision_is_the_most_probable_branch_and_becomes_a_gate(form: str, seed: int) -> None:
    hard = hardened(soft_model(FORMS[form]))
    feed = feed_of(seed)
    a, b = branches_of(feed)
    if "softmax" in form or form in ("temperature", "sliced"):
        wanted = np.where(feed["l"][:, :1] >= feed["l"][:, 1:], a, b)  # a tie is the first one's
    else:
        off = b if form == "sigmoid and the rest" else np.zeros_like(a)
        wanted = np.where(feed["g"] > 0, a, off)  # half of the weight is not more than half
    assert_close(run_onnxruntime(hard, feed)[0], wanted, 1e-5)
    portable = pipeline.recognise(hard)
    kinds = [node.op_type for node in portable.graph.node if node.domain == "pagdeploy"]
    assert kinds.count("PAGGate") == 1 and "PerforatedConv" in kinds
    assert_close(expected(portable, feed), wanted, 1e-5)
    (gate,) = (node for node in portable.graph.node if node.op_type == "PAGGate")
    assert gate.name.endswith(".hard")


@pytest.mark.parametrize("form", NONE)
def test_what_is_no_mixture(form: str) -> None:
    module = pipeline.read_module(soft_model(NONE[form]))
    assert mixtures_of(module) == []
    before = [(node.op_type, node.name) for node in module.graph]
    assert harden_mixtures.run(module) == 0
    assert [(node.op_type, node.name) for node in module.graph] == before


def test_who_reads_the_weights_for_another_purpose_reads_the_soft_ones() -> None:
    model = soft_model(
        [*FORMS["softmax"], "z = Concat <axis = 1> (p, x)"], "float y, float z, float p"
    )
    feed = feed_of(1)
    _, soft_z, soft_p = run_onnxruntime(model, feed)
    _, z, p = run_onnxruntime(hardened(model), feed)
    np.testing.assert_array_equal(z, soft_z)
    np.testing.assert_array_equal(p, soft_p)
    assert 0 < p.min() and p.max() < 1


def test_one_weight_that_is_all_changes_nothing() -> None:
    """Where the soft weights are one-hot already, hard is soft."""
    model = soft_model(FORMS["softmax"])
    feed = feed_of(2)
    feed["l"][:, 0], feed["l"][:, 1] = 200.0, -200.0
    assert_close(run_onnxruntime(hardened(model), feed)[0], run_onnxruntime(model, feed)[0], 1e-6)


def test_a_name_that_is_taken_is_not_given_again() -> None:
    model = soft_model(FORMS["softmax"])
    for node, name in zip(model.graph.node, ("mix", "mix.hard", "mix.hard.1"), strict=False):
        node.name = name
    module = pipeline.read_module(model)
    assert harden_mixtures.harden(module, mixtures_of(module)) == {"mix": "mix.hard.2"}
    names = [node.name for node in module.graph]
    assert len(set(names)) == len(names)
    run_onnxruntime(ir.to_proto(module), feed_of(0))


@pytest.mark.parametrize("lowering", pipeline.PIPELINES)
def test_no_lowering_hardens(lowering: str) -> None:
    assert harden_mixtures not in pipeline.PIPELINES[lowering]
    lowered = pipeline.lower(soft_model(FORMS["softmax"]), lowering)
    assert "Softmax" in [node.op_type for node in lowered.graph.node]
    feed = feed_of(3)
    wanted = run_onnxruntime(soft_model(FORMS["softmax"]), feed)[0]
    assert_close(run_onnxruntime(lowered, feed)[0], wanted, 1e-6)
