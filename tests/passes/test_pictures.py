"""Each pass draws its rewrite in its docstring; that picture is its test."""

from __future__ import annotations

import importlib
import pkgutil
import re
import textwrap
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import pagdeploy.passes
from pagdeploy.graph.text import parse, picture
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.precision import Precision
from tests.native import run_native

PASSES = [
    importlib.import_module(f"pagdeploy.passes.{module.name}")
    for module in pkgutil.iter_modules(pagdeploy.passes.__path__)
    if not module.ispkg  # what passes are made of
]

# What a pass is told, and the scale-free error of one that rounds.
RANGES = {"a": (-127 / 32, 127 / 32)}
INTEGERS = Precision("int8", ranges=RANGES, integer_kernels=True)
ARGUMENTS = {
    "insert_quantization": [Precision("int8", ranges=RANGES)],
    "lower_quantized": [INTEGERS],
    "move_quantization": [INTEGERS],
    "quantize_bias": [INTEGERS],
}
ROUNDING = {"cast_precision": 1e-3, "emulate_half": 1e-3, "insert_quantization": 1e-2}

# What is meant to compute something else.
CHANGING = {"harden_mixtures", "remove_gate_noise"}


def _name(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[-1]


def _rewrite(module: ModuleType, model: ir.Model) -> int:
    return module.run(model, *ARGUMENTS.get(_name(module), []))


def _drawing(module: ModuleType, title: str) -> str:
    match = re.search(
        rf"^{title}(?:, .*)?:\n((?:    .*\n|\n)+)", module.__doc__ or "", re.MULTILINE
    )
    assert match, f"{module.__name__} draws no {title}"
    return textwrap.dedent(match[1])


@pytest.mark.parametrize("module", PASSES, ids=_name)
def test_before_becomes_after(module: ModuleType) -> None:
    model = parse(_drawing(module, "Before"))
    after = parse(_drawing(module, "After"))
    assert _rewrite(module, model) > 0
    assert picture(model) == picture(after)
    assert _rewrite(module, after) == 0
    assert picture(model) == picture(after)


@pytest.mark.parametrize("module", [m for m in PASSES if _name(m) not in CHANGING], ids=_name)
def test_before_and_after_compute_the_same(module: ModuleType) -> None:
    before = ir.to_proto(parse(_drawing(module, "Before")))
    after = ir.to_proto(parse(_drawing(module, "After")))
    rng = np.random.default_rng(0)
    sizes = {"n": 2, "c": 3, "h": 5, "w": 7, "k": 3}
    feeds = {}
    for value in before.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value or sizes[d.dim_param] for d in dims]
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT32:
            feeds[value.name] = rng.integers(0, 2, shape, np.int32)
        elif value.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            feeds[value.name] = rng.integers(0, 9, shape, np.uint8)
        else:
            feeds[value.name] = rng.standard_normal(shape, np.float32)
    for one, other in zip(_run(before, feeds), _run(after, feeds), strict=True):
        bound = ROUNDING.get(_name(module), 0) * np.abs(one).max()
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=max(1e-5, bound))


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    if any(opset.domain == CPU_DOMAIN for opset in model.opset_import):
        return run_native(model, feeds)
    whole = attach_bodies(model).SerializeToString()
    session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: array for name, array in feeds.items() if name in names})
