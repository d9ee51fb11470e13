"""Changes of layout are the library's own where that pays, and change no number."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.native import run_native

OURS = (
    "pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1],"
    " dilations = [1, 1], group = 1, branch = 1, mode = 1, activation = 1, alpha = 0.0>"
)
FRONTS = {
    "given": "p = Identity (x)",
    "relu": "p = Relu (x)",
    "clip": "p = Clip (x, low, six)",
    "leaky": "p = LeakyRelu (x)",
    "conv": "c = Conv (x, w1) p = Relu (c)",
    "sum": "c = Conv (x, w1) r = Relu (c) d = Conv (r, w1) t = Add (d, r) p = Relu (t)",
    "sum with x": "c = Conv (x, w1) t = Add (c, x) p = Relu (t)",
}
BACKS = {
    "out": "y = Identity (q)",
    "conv": 'y = Conv <auto_pad = "SAME_UPPER"> (q, w3)',  # which stays onnxruntime's
    "turned": "t1 = Transpose <perm = [0, 2, 3, 1]> (q) y = Transpose <perm = [0, 3, 1, 2]> (t1)",
}


def portable(
    front: str, back: str, channels: int = 16, more: str = "", z: bool = False
) -> onnx.ModelProto:
    """A gated convolution between a front and a back; `more` may read p, or make z of it."""
    c = channels
    outputs = f"float[n, {c}, h, w] y" + (f", float[n, {c}, h, w] {'z' if more else 'p'}" * z)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        f" case (float[n, {c}, h, w] x, int32[n, 1, h, w] s) => ({outputs})"
        f" {{ {FRONTS[front]} {more} q = {OURS} (p, s, w3, b, p) {BACKS[back]} }}"
    )
    rng = np.random.default_rng(1)
    arrays = {
        "w1": rng.standard_normal((c, c, 1, 1)) / 4,
        "w3": rng.standard_normal((c, c, 3, 3)) / 12,
        "b": rng.standard_normal(c),
        "low": np.float32(0),
        "six": np.float32(6),
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a, np.float32), name)
        for name, a in arrays.items()
        if name in used
    )
    return model


def changes(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """The nodes that change a layout, each with its activation."""
    kinds = ("Transpose", "ToChannelsLast", "ToChannelsFirst")
    return [
        (node.op_type, next((a.i for a in node.attribute if a.name == "activation"), 0))
        for node in model.graph.node
        if node.op_type in kinds
    ]


OWN, STAYS = ("ToChannelsLast", 0), ("Transpose", 0)


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("given", OWN),
        ("relu", ("ToChannelsLast", 1)),
        ("clip", ("ToChannelsLast", 2)),
        ("leaky", OWN),
        ("conv", STAYS),
        ("sum", STAYS),
        ("sum with x", ("ToChannelsLast", 1)),
    ],
)
def test_front_is_the_librarys_unless_onnxruntime_has_a_layout_there(
    front: str, expected: tuple[str, int]
) -> None:
    model = lower(portable(front, "out"), "native")
    assert changes(model) == [expected, ("ToChannelsFirst", 0)]
    kept = [node.op_type for node in model.graph.node if node.op_type in ("Relu", "Clip")]
    assert bool(kept) is (expected == STAYS), "an activation is in one place"


@pytest.mark.parametrize(
    ("back", "expected"),
    [
        ("out", [("ToChannelsFirst", 0)]),
        ("conv", [STAYS]),
        ("turned", [STAYS, STAYS, ("ToChannelsFirst", 0)]),  # of which the first two cancel
    ],
)
def test_back_is_onnxruntimes_in_front_of_what_takes_it(
    back: str, expected: list[tuple[str, int]]
) -> None:
    found = changes(lower(portable("relu", back), "native"))
    assert found == [("ToChannelsLast", 1), *expected]


@pytest.mark.parametrize(("more", "z"), [("z = Sigmoid (p)", True), ("", True)])
def test_activation_that_others_read_stays(more: str, z: bool) -> None:
    model = lower(portable("relu", "out", more=more, z=z), "native")
    assert changes(model)[0] == OWN
    assert "Relu" in [node.op_type for node in model.graph.node]


def test_narrow_maps_are_onnxruntimes() -> None:
    assert changes(lower(portable("relu", "out", channels=15), "native")) == [STAYS, STAYS]


@settings(max_examples=40, deadline=None)
@given(
    front=st.sampled_from(sorted(FRONTS)),
    back=st.sampled_from(sorted(BACKS)),
    channels=st.sampled_from([8, 16, 17, 40]),
    more=st.sampled_from(["", "z = Sigmoid (p)"]),
    z=st.booleans(),
    size=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_every_change_of_layout_computes_the_same(
    front: str, back: str, channels: int, more: str, z: bool, size: tuple[int, int, int], seed: int
) -> None:
    model = portable(front, back, channels, more if z else "", z)
    rng = np.random.default_rng(seed)
    n, h, w = size
    feeds = {
        "x": 4 * rng.standard_normal((n, channels, h, w), np.float32),
        "s": rng.integers(0, 2, (n, 1, h, w), np.int32),
    }
    expected = run_onnxruntime(attach_bodies(model), feeds)
    for one, other in zip(run_native(lower(model, "native"), feeds), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(1, np.abs(other).max()))


def test_a_foreign_activation_is_left_alone():
    model = portable("relu", "out")
    (relu,) = (node for node in model.graph.node if node.op_type == "Relu")
    relu.domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    kept = [node for node in lower(model, "native").graph.node if node.domain == "com.example"]
    assert [node.op_type for node in kept] == ["Relu"]
