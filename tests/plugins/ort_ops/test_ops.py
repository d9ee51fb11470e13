"""Every op of the library, in real onnxruntime, against the op table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagdeploy.ops import PAG_GATE
from tests.plugins.ort_ops.cases import Case, assert_close, cases
from tests.plugins.ort_ops.conftest import Load, model, node

# Building a session takes longer than running it, and how long depends on the machine.
several = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _last(array: np.ndarray) -> np.ndarray:
    """Channels first to channels last."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _literal(load: Load, case: Case, *, constant: bool = True) -> np.ndarray:
    inputs = {"x": case.x, "s": case.selection, "base": case.base}
    weights = {"w": case.w, "b": case.b}
    if not constant:
        inputs |= weights
    built = model(
        [node("PerforatedConv", ["x", "s", "w", "b", "base"], ["y"], **case.attributes)],
        inputs,
        {"y": np.float32},
        weights if constant else {},
    )
    return load(built).run(None, inputs)[0]


@several
@given(case=cases())
def test_literal_convolution_is_as_defined(load: Load, case: Case) -> None:
    assert_close(_literal(load, case), case.reference())


@settings(several, max_examples=10)
@given(case=cases())
def test_weights_may_be_computed(load: Load, case: Case) -> None:
    assert_close(_literal(load, case, constant=False), case.reference())


@several
@given(case=cases(per_image=False), dynamic=st.booleans())
def test_channels_last_convolution_is_as_defined(load: Load, case: Case, dynamic: bool) -> None:
    attributes = {name: case.attributes[name] for name in case.attributes if name != "branch"}
    inputs = {"x": _last(case.x), "s": case.selection, "base": _last(case.base)}
    built = model(
        [
            node("ActivePixels", ["s"], ["pixels"], branch=case.attributes["branch"]),
            node("PerforatedConvNhwc", ["x", "w", "b", "base", "pixels"], ["y"], **attributes),
        ],
        inputs,
        {"y": np.float32},
        {"w": case.w, "b": case.b},
        dynamic=dynamic,
    )
    assert_close(load(built).run(None, inputs)[0], _last(case.reference()))


@several
@given(
    case=cases(per_image=False),
    m=st.sampled_from([1, 8, 40]),
    mode=st.integers(0, 1),
    activation=st.integers(0, 3),
    one_value=st.booleans(),
    dynamic=st.booleans(),
)
def test_pair_is_one_after_the_other(
    load: Load, case: Case, m: int, mode: int, activation: int, one_value: bool, dynamic: bool
) -> None:
    rng = np.random.default_rng(m)
    given = dict(case.attributes, mode=0)
    zero = np.zeros((1, 1, 1, 1), np.float32)
    inner = Case(case.x, case.selection, case.w, case.b, zero, given).reference()
    n, channels, *size = inner.shape
    base = rng.standard_normal((1, 1, 1, 1) if one_value else (n, m, *size), np.float32)
    weights = {
        "w": case.w, "b": case.b,
        "w2": rng.standard_normal((m, channels, 1, 1), np.float32),
        "b2": rng.standard_normal(m, np.float32),
    }  # fmt: skip
    second = {
        "kernel_shape": [1, 1], "branch": given["branch"], "mode": mode,
        "activation": activation, "alpha": 0.5,
    }  # fmt: skip
    expected = Case(inner, case.selection, weights["w2"], weights["b2"], base, second).reference()
    attributes = {name: given[name] for name in given if name != "branch"}
    attributes |= {"mode": mode, "activation": activation, "alpha": 0.5}
    attributes |= {"inner_activation": given["activation"], "inner_alpha": given["alpha"]}
    inputs = {"x": _last(case.x), "s": case.selection, "base": _last(base)}
    built = model(
        [
            node("ActivePixels", ["s"], ["pixels"], branch=given["branch"]),
            node(
                "PerforatedConvPairNhwc", ["x", "w", "b", "w2", "b2", "base", "pixels"], ["y"],
                **attributes,
            ),
        ],
        inputs,
        {"y": np.float32},
        weights,
        dynamic=dynamic,
    )  # fmt: skip
    assert_close(load(built).run(None, inputs)[0], _last(expected))


@settings(several, max_examples=20)
@given(case=cases(per_image=False))
def test_without_a_list_every_pixel_is_computed(load: Load, case: Case) -> None:
    full = np.full_like(case.selection, case.attributes["branch"])
    x = np.nan_to_num(case.x, posinf=1.0)
    base = np.nan_to_num(case.base)
    everywhere = Case(x, full, case.w, case.b, base, case.attributes)
    attributes = {name: case.attributes[name] for name in case.attributes if name != "branch"}
    inputs = {"x": _last(x), "base": _last(base)}
    built = model(
        [node("PerforatedConvNhwc", ["x", "w", "b", "base"], ["y"], **attributes)],
        inputs,
        {"y": np.float32},
        {"w": case.w, "b": case.b},
    )
    assert_close(load(built).run(None, inputs)[0], _last(everywhere.reference()))


@several
@given(case=cases(per_image=False))
def test_support_is_what_the_taps_read(load: Load, case: Case) -> None:
    reach = {n: case.attributes[n] for n in ("kernel_shape", "strides", "pads", "dilations")}
    n, _, h, w = case.x.shape
    inputs = {"s": case.selection}
    built = model(
        [
            node("ActivePixels", ["s"], ["pixels"], branch=case.attributes["branch"]),
            node("SupportPixels", ["pixels", "size"], ["support"], **reach),
        ],
        inputs,
        {"support": np.int32},
        {"size": np.array([n, h, w], np.int64)},
    )
    found = load(built).run(None, inputs)[0]
    wanted = set()
    for image, y, x in np.argwhere(case.selection[:, 0] == case.attributes["branch"]):
        for i in range(case.w.shape[2]):
            for j in range(case.w.shape[3]):
                row = y * reach["strides"][0] - reach["pads"][0] + i * reach["dilations"][0]
                column = x * reach["strides"][1] - reach["pads"][1] + j * reach["dilations"][1]
                if 0 <= row < h and 0 <= column < w:
                    wanted.add(int((image * h + row) * w + column))
    assert found.tolist() == sorted(wanted)


@several
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 13), st.integers(1, 13)),
    activation=st.integers(0, 3),
    dynamic=st.booleans(),
)
def test_layouts_change_there_and_back(
    load: Load, shape: tuple[int, ...], activation: int, dynamic: bool
) -> None:
    x = 8 * np.random.default_rng(activation).standard_normal(shape, np.float32)
    bent = [x, np.maximum(x, 0), np.clip(x, 0, 6), np.where(x < 0, np.float32(0.25) * x, x)]
    nodes = [
        node("ToChannelsLast", ["x"], ["last"], activation=activation, alpha=0.25),
        node("ToChannelsFirst", ["last"], ["first"]),
    ]
    built = model(nodes, {"x": x}, {"last": np.float32, "first": np.float32}, {}, dynamic=dynamic)
    last, first = load(built).run(None, {"x": x})
    np.testing.assert_array_equal(first, bent[activation])
    np.testing.assert_array_equal(last, _last(bent[activation]))


@several
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 13), st.integers(1, 150)),
    shift=st.sampled_from([0.0, 1e3]),
    dynamic=st.booleans(),
)
def test_means_over_channels(
    load: Load, shape: tuple[int, ...], shift: float, dynamic: bool
) -> None:
    x = np.random.default_rng(shape[1]).standard_normal(shape, np.float32) + np.float32(shift)
    built = model(
        [node("ChannelMeansNhwc", ["x"], ["y"])], {"x": x}, {"y": np.float32}, {}, dynamic=dynamic
    )
    (means,) = load(built).run(None, {"x": x})
    assert means.shape == (shape[0], 1, 1, shape[3])
    exact = x.astype(np.float64).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(means, exact, rtol=0, atol=1e-6 * max(1.0, shift))


def test_the_mean_of_no_pixels_is_nan(load: Load) -> None:
    x = np.zeros((1, 0, 4, 3), np.float32)
    built = model([node("ChannelMeansNhwc", ["x"], ["y"])], {"x": x}, {"y": np.float32}, {})
    assert np.isnan(load(built).run(None, {"x": x})[0]).all()


@pytest.mark.parametrize("branches", [1, 2, 3, 16])
def test_gate_takes_the_first_of_the_largest(load: Load, branches: int) -> None:
    logits = np.random.default_rng(0).integers(0, 3, (2, branches, 33, 47)).astype(np.float32)
    built = model([node("PAGGate", ["logits"], ["s"])], {"logits": logits}, {"s": np.int32}, {})
    found = load(built).run(None, {"logits": logits})[0]
    np.testing.assert_array_equal(found, PAG_GATE.reference(logits))


def test_chain_of_branches_is_a_multi_pool(load: Load) -> None:
    """K dilations over one selection, each taking the previous one as base."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 8, 16, 12), np.float32)
    w, b = rng.standard_normal((8, 8, 3, 3), np.float32), rng.standard_normal(8, np.float32)
    selection = rng.integers(0, 5, (1, 1, 16, 12)).astype(np.int32)
    nodes, base, expected = [], "x", x
    for branch in range(1, 5):
        attributes = {
            "kernel_shape": [3, 3], "pads": [2**branch] * 4, "dilations": [2**branch] * 2,
            "branch": branch, "activation": 1,
        }  # fmt: skip
        nodes.append(
            node("PerforatedConv", ["x", "s", "w", "b", base], [f"y{branch}"], **attributes)
        )
        base = f"y{branch}"
        expected = Case(x, selection, w, b, expected, attributes).reference()
    inputs = {"x": x, "s": selection}
    built = model(nodes, inputs, {base: np.float32}, {"w": w, "b": b})
    assert_close(load(built).run(None, inputs)[0], expected)
