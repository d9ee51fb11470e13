"""The native lowering computes the same, stays channels last, and leaves dead what may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from pagdeploy.graph.read import read_model
from pagdeploy.ops import PAG_GATE
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.models import run_onnxruntime
from tests.native import run_native

HEAD = '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
CONV = (
    "kernel_shape = [{k}, {k}], strides = [{s}, {s}], pads = [{p}, {p}, {p}, {p}],"
    " dilations = [1, 1], group = {g}, branch = 1, mode = {mode}, activation = {act}, alpha = 0.0"
)


def ours(x: str, w: str, base: str, y: str, s: str = "s", **given: Any) -> str:
    """One PerforatedConv as text."""
    attributes = {"k": 3, "s": 1, "p": 1, "g": 1, "mode": 0, "act": 1, **given}
    return (
        f"{y} = pagdeploy.PerforatedConv <{CONV.format(**attributes)}> ({x}, {s}, {w}, b8, {base})"
    )


POINT = {"k": 1, "p": 0}
BLOCK = [
    "a{i} = Conv ({x}, w_in, b8)",
    "r{i} = Relu (a{i})",
    ours("r{i}", "w3", "zero", "c{i}"),
    ours("c{i}", "w1", "{x}", "y{i}", mode=1, **POINT),
]
GATE = ["l{i} = Conv ({x}, w_gate)", "s{i} = pagdeploy.PAGGate (l{i})"]


def block(i: int, x: str, gate: bool) -> list[str]:
    """A bottleneck, whose gate reads what it reads."""
    lines = [line.replace(", s,", f", s{i},") if gate else line for line in BLOCK]
    return [line.format(i=i, x=x) for line in (GATE if gate else []) + lines]


CASES = {
    "one conv": [ours("x", "w3", "x", "y")],
    "one value below": [ours("x", "w3", "minus", "y", mode=1)],
    "signed base": [ours("x", "w3", "x", "y", mode=1)],
    "base behind a relu": ["p = Relu (x)", ours("p", "w3", "p", "y", mode=1)],
    "bottleneck": ["p = Relu (x)", *block(1, "p", False), "y = Identity (y1)"],
    "gated chain": [
        "p = Relu (x)", *block(1, "p", True), *block(2, "y1", True), *block(3, "y2", True),
        "y = Identity (y3)",
    ],
    "head read twice": [
        "a = Conv (x, w_in, b8)", ours("a", "w3", "zero", "c"), "y = Add (a, c)",
    ],
    "head is an output": ["y = Conv (x, w_in, b8)", ours("y", "w3", "zero", "z")],
    "two heads": [
        "a = Conv <pads = [1, 1, 1, 1]> (x, w3)", "r = Clip (a, low, six)",
        "d = Conv <pads = [1, 1, 1, 1], group = 8> (r, w_depth)", "q = Clip (d, low, six)",
        ours("q", "w1", "x", "y", mode=1, act=0, **POINT),
    ],
    "other branch behind": [
        ours("x", "w3", "zero", "c"), ours("c", "w1", "x", "d", **POINT),
        ours("x", "w3", "d", "y").replace("branch = 1", "branch = 0"),
    ],
    "relu behind a base": [ours("x", "w3", "x", "c", act=0), "y = Relu (c)"],
    "relu of what is dead": [
        ours("x", "w3", "zero", "c", act=0), "r = Relu (c)",
        ours("r", "w1", "x", "y", **POINT),
    ],
    "gated pixels read from around": [ours("x", "w3", "zero", "c"), ours("c", "w3", "x", "y")],
    "depthwise": [ours("x", "w_depth", "x", "y", g=8)],
    "per image": [ours("x", "w3", "x", "y", s="si")],
    "sum with what comes channels first": [
        ours("x", "w3", "x", "c"), "d = Sigmoid (x)", "e = Add (d, c)", "f = Mul (e, six)",
        "g = Sub (f, v8)", "y = Conv (g, w1)",
    ],
    "stride": [
        "q = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w3)",
        ours("q", "w1", "minus", "y", s="sh", mode=1, **POINT),
    ],
}  # fmt: skip
CONSTANTS = {
    "w_in": (8, 8, 1, 1), "w1": (8, 8, 1, 1), "w3": (8, 8, 3, 3), "w_depth": (8, 1, 3, 3),
    "w_gate": (2, 8, 1, 1), "b8": (8,), "v8": (8, 1, 1),
}  # fmt: skip
SCALARS = {"low": 0.0, "six": 6.0}


def portable(lines: list[str]) -> onnx.ModelProto:
    """The model of some lines over x and its selections."""
    text = "\n".join(lines)
    outputs = "float[n, 8, 4, 5] y" if "strides = [2, 2]" in text else "float[n, 8, h, w] y"
    outputs += ", float[n, 8, h, w] z" if "z = " in text else ""
    model = onnx.parser.parse_model(
        f"{HEAD} case (float[n, 8, h, w] x, int32[n, 1, h, w] s, int32[n, 1, 1, 1] si,"
        f" int32[n, 1, 4, 5] sh) => ({outputs}) {{ {text} }}"
    )
    rng = np.random.default_rng(1)
    arrays = {n: rng.standard_normal(s).astype(np.float32) / 3 for n, s in CONSTANTS.items()}
    arrays |= {name: np.float32(value) for name, value in SCALARS.items()}
    arrays["zero"] = np.zeros((1, 1, 1, 1), np.float32)
    arrays["minus"] = np.full((1, 1, 1, 1), -0.5, np.float32)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items() if n in used
    )
    return model


def feeds(seed: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Inputs of the cases."""
    rng = np.random.default_rng(seed)
    n, (h, w) = 2, size
    return {
        "x": rng.standard_normal((n, 8, h, w)).astype(np.float32),
        "s": rng.integers(0, 2, (n, 1, h, w), np.int32),
        "si": np.array([0, 1], np.int32).reshape(n, 1, 1, 1),
        "sh": rng.integers(0, 2, (n, 1, 4, 5), np.int32),
    }


def of_ours(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The channels-last convolutions; two may be one."""
    kinds = ("PerforatedConvNhwc", "PerforatedConvPairNhwc")
    return [node for node in model.graph.node if node.op_type in kinds]


def inactive(model: onnx.ModelProto) -> list[int]:
    """The attribute of that name of each of them, in order."""
    return [a.i for node in of_ours(model) for a in node.attribute if a.name == "inactive"]


def lowered(case: str) -> onnx.ModelProto:
    """The case behind the native pipeline."""
    return lower(portable(CASES[case]), "native")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_computes_the_same(case: str, seed: int) -> None:
    given = feeds(seed, (8, 9))
    model = portable(CASES[case])
    native = lower(model, "native")
    names = {value.name for value in native.graph.input}
    expected = run_onnxruntime(attach_bodies(model), given)
    found = run_native(native, {name: given[name] for name in names})
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * scale)


def test_everything_of_a_bottleneck_is_native_and_dead_where_nobody_reads():
    model = lowered("bottleneck")
    assert inactive(model) == [2, 1]
    assert [n.op_type for n in of_ours(model)] == ["PerforatedConvNhwc", "PerforatedConvPairNhwc"]
    assert not [n for n in model.graph.node if n.op_type in ("Conv", "PerforatedConv")]
    supports = [n for n in model.graph.node if n.op_type == "SupportPixels"]
    lists = [n for n in model.graph.node if n.op_type == "ActivePixels"]
    assert (len(supports), len(lists)) == (1, 1)
    assert of_ours(model)[0].input[4] == supports[0].output[0]


def test_chain_stays_channels_last():
    model = lowered("gated chain")
    transposes = [n for n in model.graph.node if n.op_type == "Transpose"]
    into_gates = [n for n in model.graph.node if n.op_type == "PAGGate"]
    # One in, one out, and the logits of each gate but the first, which reads what comes in.
    assert len(transposes) == 2 + len(into_gates) - 1
    assert [inactive(model).count(value) for value in (2, 1)] == [3, 3]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("one conv", [1]),
        ("signed base", [0]),
        ("one value below", [0]),
        ("base behind a relu", [1]),
        ("other branch behind", [1, 1]),
        ("gated pixels read from around", [1, 1]),
        ("relu of what is dead", [1]),
    ],
)
def test_inactive_says_what_is_proved(case: str, expected: list[int]):
    assert inactive(lowered(case)) == expected


@pytest.mark.parametrize("case", ["head read twice", "head is an output"])
def test_head_that_others_read_is_computed_everywhere(case: str):
    model = lowered(case)
    assert len(of_ours(model)) == 1, "the perforated one is native"
    assert [n.op_type for n in model.graph.node].count("Conv") == 1


def test_activation_joins_its_convolution():
    model = lowered("two heads")
    found = {
        name: [a.i for n in of_ours(model) for a in n.attribute if a.name == name]
        for name in ("activation", "inner_activation")
    }
    assert found == {"activation": [2, 0], "inner_activation": [2]}
    assert not [n for n in model.graph.node if n.op_type == "Clip"]


JOINED = {
    "bottleneck": True,
    "two heads": True,
    "other branch behind": True,
    "relu of what is dead": True,
    "base behind a relu": False,
    "gated pixels read from around": False,  # the second one is not pointwise
    "stride": True,
    "head read twice": False,
    "read twice": False,
    "other pixels": False,
    "adds first": False,
    "many weights": False,
}
CASES |= {
    "read twice": [
        ours("x", "w3", "zero", "c"), ours("c", "w1", "x", "d", **POINT), "y = Add (c, d)",
    ],
    "other pixels": [
        ours("x", "w3", "x", "c"),
        ours("c", "w1", "x", "y", **POINT).replace("branch = 1", "branch = 0"),
    ],
    "adds first": [ours("x", "w3", "x", "c", mode=1), ours("c", "w1", "x", "y", **POINT)],
    "many weights": [
        ours("x", "w_wide", "zero", "c").replace("b8", "b900"),
        ours("c", "w_back", "x", "y", **POINT),
    ],
}  # fmt: skip
CONSTANTS |= {"w_wide": (900, 8, 3, 3), "b900": (900,), "w_back": (8, 900, 1, 1)}


@pytest.mark.parametrize("case", JOINED)
def test_pointwise_convolution_joins_what_it_alone_reads(case: str):
    found = [n.op_type for n in of_ours(lowered(case))]
    assert ("PerforatedConvPairNhwc" in found) is JOINED[case]


@pytest.mark.parametrize("case", JOINED)
def test_joined_or_not_computes_the_same(case: str):
    test_computes_the_same(case, 2)


SUMS = {
    "sum behind": (["r = Conv (c, w1, b8)", "y = Add (r, c)"], [1], 1),
    "sum, the other way round": (["r = Conv (c, w1, b8)", "y = Add (c, r)"], [1], 1),
    "sum and relu": (["r = Conv (c, w1, b8)", "t = Add (r, x)", "y = Relu (t)"], [1], 1),
    "sum and clip": (["r = Conv (c, w1)", "t = Add (x, r)", "y = Clip (t, low, six)"], [1], 1),
    "sum read twice": (
        ["r = Conv (c, w1, b8)", "t = Add (r, c)", "u = Relu (t)", "y = Mul (t, u)"], [1], 1,
    ),
    "sum of two": (
        ["r = Conv (c, w1, b8)", "q = Conv (c, w_in, b8)", "t = Add (r, q)", "y = Relu (t)"],
        [0, 1], 2,
    ),
    "sum of one with itself": (["r = Conv (c, w1, b8)", "y = Add (r, r)"], [0], 1),
    "part read elsewhere": (
        ["r = Conv (c, w1, b8)", "t = Add (r, c)", "y = Mul (r, t)"], [0], 1,
    ),
    "part bent": (["r = Conv (c, w1, b8)", "q = Relu (r)", "y = Add (q, c)"], [0], 1),
    "number added": (["r = Conv (c, w1, b8)", "y = Add (r, six)"], [0], 1),
    "smaller map added": (
        ["r = Conv (c, w1, b8)", "m = GlobalAveragePool (c)", "y = Add (r, m)"], [0], 1,
    ),
    "part is perforated": ([ours("c", "w1", "x", "r", **POINT), "y = Add (r, c)"], [0], 1),
}  # fmt: skip
# "c" is perforated and read by two, so what is behind it is native, but joins nothing.
CASES |= {
    name: [ours("x", "w3", "x", "c"), "z = Sigmoid (c)", *lines]
    for name, (lines, *_) in SUMS.items()
}


@pytest.mark.parametrize("case", SUMS)
def test_sum_becomes_the_end_of_a_plain_convolution(case: str):
    _, modes, count = SUMS[case]
    behind = of_ours(lowered(case))[1:]
    found = [a.i for node in behind for a in node.attribute if a.name == "mode"]
    assert (sorted(found), len(behind)) == (modes, count)
    adds = [node for node in lowered(case).graph.node if node.op_type == "Add"]
    assert len(adds) == 1 - sum(modes)
    test_computes_the_same(case, 0)


def test_lowered_file_is_read_again(tmp_path: Path):
    path = tmp_path / "native.onnx"
    onnx.save(lowered("gated chain"), path)
    assert read_model(path).graph.node == lowered("gated chain").graph.node


def test_half_precision_is_gathered():
    model = portable(CASES["gated chain"])
    native = lower(model, "native", precision=Precision("fp16"))
    given = feeds(0, (8, 9))
    names = {value.name for value in native.graph.input}
    found = run_native(native, {name: given[name] for name in names})
    (expected,) = run_onnxruntime(attach_bodies(model), given)
    # Not the largest error: a decision may flip.
    assert np.median(np.abs(found[0] - expected)) < 0.01 * np.abs(expected).max()


def test_gate_of_half_precision_decides_in_float32():
    model = onnx.parser.parse_model(
        f"{HEAD} half (float16[n, 3, h, w] logits) => (int32[n, 1, h, w] s)"
        " { s = pagdeploy.PAGGate (logits) }"
    )
    logits = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype(np.float16)
    (found,) = run_native(lower(model, "native"), {"logits": logits})
    np.testing.assert_array_equal(found, PAG_GATE.reference(logits))


def test_without_our_ops_nothing_is_changed():
    plain = portable(["y = Conv (x, w_in, b8)"])
    model = lower(plain, "native")
    assert CPU_DOMAIN not in {opset.domain for opset in model.opset_import}
    assert [node.op_type for node in model.graph.node] == ["Conv"]


def test_what_a_mask_multiplies_is_defined_everywhere():
    """A dead pixel holds whatever lay in memory, and zero times NaN is NaN."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        product (float[1, 4, 6, 6] x, float[1, 1, 6, 6] g) => (float[1, 4, 6, 6] y)
        <float zero = {0},
         float[4, 4, 1, 1] w = {1, 2, 0, 1, -1, 1, 2, 0, 0, 1, 1, 1, 2, -1, 0, 1}> {
            positive = Greater (g, zero)
            m = Cast <to = 1> (positive)
            n = Neg (m)
            c = Conv (x, w)
            q = Mul (c, n)
            y = Add (x, q)
        }"""
    lowered = lower(onnx.parser.parse_model(text), "native")
    convs = [n for n in lowered.graph.node if n.op_type.startswith("PerforatedConv")]
    assert convs, "the product with the mask leaves pixels unread"
    inactive = [a.i for n in convs for a in n.attribute if a.name == "inactive"]
    assert inactive and 2 not in inactive
