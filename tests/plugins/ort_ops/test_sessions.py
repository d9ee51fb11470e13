"""How the library behaves inside a session: places, threads, refusals, names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pagdeploy.engines import ort_native
from pagdeploy.ops.bodies import attach_bodies
from tests.plugins.ort_ops.cases import Case, assert_close
from tests.plugins.ort_ops.conftest import Arrays, Load, model, node

POINTWISE = {"kernel_shape": [1, 1]}
SPATIAL = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def _weights(m: int, c: int, k: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((m, c, k, k), np.float32),
        "b": rng.standard_normal(m, np.float32),
    }


def _in_the_middle(base: str, dynamic: bool) -> tuple[onnx.ModelProto, Arrays]:
    """A convolution between two other nodes, because a graph's own tensors are never reused.

    Rows that are not listed are left as they were: in place they show the base.
    """
    rng = np.random.default_rng(4)
    inputs = {
        "x": rng.standard_normal((1, 6, 7, 8), np.float32),
        "given": rng.standard_normal((1, 6, 7, 8), np.float32),
        "pixels": np.array([3, 17, 40], np.int32),
    }
    nodes = [
        node("Relu", ["x"], ["x_relu"]),
        node("Exp", ["given"], ["base"]),
        node(
            "PerforatedConvNhwc", ["x_relu", "w", "b", base, "pixels"], ["y"],
            mode=1, inactive=2, **SPATIAL,
        ),
        node("Neg", ["y"], ["z"]),
    ]  # fmt: skip
    return model(nodes, inputs, {"z": np.float32}, _weights(8, 8, 3), dynamic=dynamic), inputs


@pytest.mark.parametrize("dynamic", [False, True])
def test_runs_in_place_on_the_base(load: Load, dynamic: bool) -> None:
    built, inputs = _in_the_middle("base", dynamic)
    z = load(built).run(None, inputs)[0].reshape(-1, 8)
    untouched = np.delete(np.exp(inputs["given"]).reshape(-1, 8), inputs["pixels"], axis=0)
    np.testing.assert_allclose(-np.delete(z, inputs["pixels"], axis=0), untouched, rtol=1e-5)


def test_never_runs_in_place_on_its_own_input(load: Load) -> None:
    """A finished row would be what its neighbours still read."""
    built, inputs = _in_the_middle("x_relu", dynamic=False)
    inactive = next(a for a in built.graph.node[2].attribute if a.name == "inactive")
    inactive.i = 0
    z = load(built).run(None, inputs)[0]
    x = np.maximum(inputs["x"], 0).transpose(0, 3, 1, 2)
    selection = np.zeros((1, 1, 6, 7), np.int32)
    selection.reshape(-1)[inputs["pixels"]] = 1
    weights = _weights(8, 8, 3)
    case = Case(x, selection, weights["w"], weights["b"], x, {"mode": 1, **SPATIAL})
    assert_close(-z.transpose(0, 3, 1, 2), case.reference())


def test_many_threads_share_a_session(load: Load) -> None:
    rng = np.random.default_rng(5)
    weights = _weights(24, 16, 3)
    attributes = {"mode": 1, "activation": 1, **SPATIAL}
    built_for = {
        "x": rng.standard_normal((1, 16, 20, 24), np.float32),
        "s": rng.integers(0, 2, (1, 1, 20, 24)).astype(np.int32),
        "base": rng.standard_normal((1, 24, 20, 24), np.float32),
    }
    built = model(
        [node("PerforatedConv", ["x", "s", "w", "b", "base"], ["y"], **attributes)],
        built_for,
        {"y": np.float32},
        weights,
    )
    session = load(built)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        mine = np.random.default_rng(seed)
        try:
            for _ in range(20):  # of sizes of their own, so that shared scratch would show
                size = tuple(mine.integers(3, 30, 2))
                x = mine.standard_normal((2, 16, *size), np.float32)
                s = mine.integers(0, 2, (2, 1, *size)).astype(np.int32)
                base = mine.standard_normal((2, 24, *size), np.float32)
                case = Case(x, s, weights["w"], weights["b"], base, attributes)
                found = session.run(None, {"x": x, "s": s, "base": base})[0]
                assert_close(found, case.reference())
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _nhwc(load: Load, inputs: Arrays, weights: Arrays, **attributes: Any) -> Any:
    names = ["x", "w", "b", "base", "pixels"][: 3 + len(inputs) - 1]
    built = model(
        [node("PerforatedConvNhwc", names, ["y"], **attributes)],
        inputs,
        {"y": np.float32},
        weights,
    )
    return load(built).run(None, inputs)[0]


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({}, "attribute 'kernel_shape' is missing"),
        ({"kernel_shape": [1, 1, 1]}, "attribute 'kernel_shape' must be 2 integers"),
        ({"kernel_shape": 1}, "attribute 'kernel_shape' is missing"),
        ({**POINTWISE, "mode": 2}, "attribute 'mode' is 2 and must be in 0..1"),
        ({**POINTWISE, "mode": [1]}, "attribute 'mode' must be one integer"),
        ({**POINTWISE, "mode": 2**40}, "attribute 'mode' is 1099511627776, which is no 32-bit"),
        ({**POINTWISE, "activation": -1}, "attribute 'activation' is -1"),
        ({**POINTWISE, "alpha": float("inf")}, "attribute 'alpha' must be finite"),
        ({**POINTWISE, "alpha": 1}, "attribute 'alpha' must be one float"),
        ({**POINTWISE, "group": 0}, "attribute 'group' must be at least 1"),
        ({**POINTWISE, "group": 3}, "4 output channels cannot be split into 3 groups"),
        ({**POINTWISE, "strides": [0, 1]}, "attribute 'strides' must be 2 integers"),
        ({**POINTWISE, "inactive": 3}, "attribute 'inactive' is 3 and must be in 0..2"),
        ({"kernel_shape": [3, 3]}, "the weights are 4x4x1x1 and kernel_shape is 3, 3"),
    ],
)
def test_impossible_attribute_is_refused_with_a_sentence(
    load: Load, attributes: dict[str, Any], sentence: str
) -> None:
    inputs = {"x": np.zeros((1, 3, 3, 4), np.float32), "base": np.zeros((1, 1, 1, 1), np.float32)}
    with pytest.raises(Exception, match="PerforatedConvNhwc: ") as caught:
        _nhwc(load, inputs, _weights(4, 4, 1), **attributes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pixels": [0, 0]}, "the list of pixels does not ascend"),
        ({"pixels": [4, 2]}, "the list of pixels does not ascend"),
        ({"pixels": [-1, 2]}, "the list of pixels leaves the map of 9 pixels"),
        ({"pixels": [0, 9]}, "the list of pixels leaves the map of 9 pixels"),
        ({"pixels": 5}, "must have one axis"),
        ({"pixels": [[0, 1]]}, "the list of pixels is 1x2 and must have one axis"),
        ({"x": np.zeros((1, 3, 3, 5))}, "with 1 groups the channels do not match"),
        ({"x": np.zeros((3, 4))}, "X must be of rank 4, not 2"),
        ({"base": np.zeros((1, 3, 2, 4))}, "the base is 1x4x3x2 and must be 1x4x3x3"),
    ],
)
def test_impossible_input_is_refused_with_a_sentence(
    load: Load, changes: dict[str, Any], sentence: str
) -> None:
    inputs = {
        "x": np.zeros((1, 3, 3, 4), np.float32),
        "base": np.zeros((1, 3, 3, 4), np.float32),
        "pixels": np.array([0], np.int32),
    }
    inputs |= {name: np.asarray(value, inputs[name].dtype) for name, value in changes.items()}
    with pytest.raises(Exception, match="PerforatedConvNhwc: ") as caught:
        _nhwc(load, inputs, _weights(4, 4, 1), **POINTWISE)
    assert sentence in str(caught.value)


def test_no_output_channels_are_refused(load: Load) -> None:
    inputs = {
        "x": np.zeros((1, 3, 3, 4), np.float32),
        "base": np.zeros((1, 3, 3, 0), np.float32),
        "pixels": np.array([0], np.int32),
    }
    with pytest.raises(Exception, match="there is no output channel"):
        _nhwc(load, inputs, _weights(0, 4, 1), **POINTWISE)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "sentence"),
    [
        ("ToChannelsLast", (4, 5), {}, "ToChannelsLast: X must be of rank 4, not 2"),
        ("ToChannelsFirst", (4, 5, 6), {}, "ToChannelsFirst: X must be of rank 4, not 3"),
        ("ChannelMeansNhwc", (4,), {}, "ChannelMeansNhwc: X must be of rank 4, not 1"),
        ("ToChannelsLast", (1, 2, 3, 4), {"activation": 4}, "attribute 'activation' is 4"),
        ("ToChannelsLast", (1, 2, 3, 4), {"alpha": 1}, "attribute 'alpha' must be one float"),
    ],
)
def test_impossible_change_of_layout_is_refused(
    load: Load, op: str, shape: tuple[int, ...], attributes: dict[str, Any], sentence: str
) -> None:
    inputs = {"x": np.zeros(shape, np.float32)}
    built = model([node(op, ["x"], ["y"], **attributes)], inputs, {"y": np.float32}, {})
    with pytest.raises(Exception, match=sentence):
        load(built).run(None, inputs)


def test_selection_of_another_size_is_refused(load: Load) -> None:
    inputs = {
        "x": np.zeros((1, 4, 3, 3), np.float32),
        "s": np.zeros((1, 1, 2, 3), np.int32),
        "base": np.zeros((1, 1, 1, 1), np.float32),
    }
    built = model(
        [node("PerforatedConv", ["x", "s", "w", "b", "base"], ["y"], **POINTWISE)],
        inputs,
        {"y": np.float32},
        _weights(4, 4, 1),
    )
    with pytest.raises(Exception, match="the selection is 1x1x2x3 and the output is 1x4x3x3"):
        load(built).run(None, inputs)


def test_library_goes_before_a_function_body(load: Load, tmp_path: Path) -> None:
    """A portable model with its bodies takes the library too: a body that is wrong stays unused."""
    inputs = {
        "x": np.ones((1, 4, 3, 3), np.float32),
        "s": np.ones((1, 1, 3, 3), np.int32),
        "base": np.zeros((1, 1, 1, 1), np.float32),
    }
    weights = _weights(4, 4, 1)
    attributes = {
        "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1],
        "group": 1, "branch": 1, "mode": 0, "activation": 0, "alpha": 0.0,
    }  # fmt: skip
    whole = attach_bodies(
        model(
            [node("PerforatedConv", ["x", "s", "w", "b", "base"], ["y"], **attributes)],
            inputs,
            {"y": np.float32},
            weights,
        )
    )
    (body,) = whole.functions
    (last,) = (n for n in body.node if list(n.output) == ["Y"])
    last.op_type, last.input[:] = "Identity", [last.input[2]]  # the base, whatever is selected
    case = Case(inputs["x"], inputs["s"], weights["w"], weights["b"], inputs["base"], attributes)
    assert_close(load(whole).run(None, inputs)[0], case.reference())


def test_exports_one_function_and_needs_no_onnxruntime(library: Path) -> None:
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".dynsym").iter_symbols()
        exported = [
            s.name for s in symbols
            if s["st_shndx"] != "SHN_UNDEF" and s["st_info"]["bind"] != "STB_LOCAL"
        ]  # fmt: skip
        needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    assert [name for name in exported if name != "VERS_1.0"] == ["RegisterCustomOps"]
    assert not [name for name in needed if "onnxruntime" in name]


def test_passes_its_own_test(library: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is remembered yet
    ort_native._self_test.cache_clear()
    assert ort_native.self_test(library) is None
    assert [path.name for path in (tmp_path / "pagdeploy" / "ort-ops").iterdir()]
