"""A budget moves every binary gate, and only those; at zero it is not there."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from pagdeploy.errors import UsageError
from pagdeploy.exporters.budget import add_budget
from pagdeploy.exporters.from_torch import export
from pagdeploy.exporters.modules import MultiPool, PAGGate, PerforatedConv2d
from pagdeploy.exporters.torch_ops import pag_gate
from pagdeploy.graph.gates import expose, gates_of
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.proof import run_lowered, verify_models

SHAPE = (2, 3, 9, 11)


class Net(nn.Module):
    """Two binary gates, of which one decides for two convolutions, and one of three branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = PAGGate(nn.Conv2d(4, 2, 1))
        self.one = PerforatedConv2d(4, 4, 3, padding=1, activation="relu")
        self.two = PerforatedConv2d(4, 4, 1, mode="add")
        self.pool = MultiPool(4, (2, 1, 0), PAGGate(nn.Conv2d(4, 3, 1)))
        self.last = PAGGate(nn.Conv2d(3, 2, 1), blur=True)
        self.three = PerforatedConv2d(4, 4, 3, padding=1, mode="add")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        selection = self.first(y)
        y = self.pool(self.two(self.one(y, selection, y), selection, y))
        return self.three(y, self.last(x), y)


class Shown(Net):
    """A network that gives the logits of its gate away."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.stem(x)
        logits = self.first.head(y)
        return self.one(y, pag_gate(logits), y), logits


# A gate whose branch 0 computes, too.
BOTH_COMPUTE = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
both (float[n, 2, h, w] x, float[2, 2, 1, 1] w0, float[2] b) => (float[n, 2, h, w] y)
{
    s = pagdeploy.PAGGate (x)
    y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
        dilations = [1, 1], group = 1, branch = 0, mode = 0, activation = 0, alpha = 0.0>
        (x, s, w0, b, x)
}"""


def exported(model: nn.Module, budget: str | None = "budget", **options) -> onnx.ModelProto:
    torch.manual_seed(0)
    dtype = next(model.parameters()).dtype
    return export(model.eval(), (torch.rand(SHAPE, dtype=dtype),), budget_input=budget, **options)


def net() -> Net:
    """The network, its binary gates undecided on average."""
    torch.manual_seed(0)
    model, x = Net(), torch.rand(SHAPE)
    with torch.no_grad():
        for gate, features in ((model.first, model.stem(x)), (model.last, x)):
            gate.head.bias -= gate.head(features).mean((0, 2, 3))
    return model


@pytest.fixture(scope="module")
def models() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model as it is, and with a budget."""
    return exported(net(), None), exported(net())


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE, np.float32)


def answers(model: onnx.ModelProto, image: np.ndarray, budget: float | None = None):
    names = [name for gate in gates_of(model) for name in (gate.logits, gate.selection)]
    given = {"x": image} if budget is None else {"x": image, "budget": np.float32(budget)[...]}
    return run_lowered(expose(model, names), given)


def test_the_budget_is_a_scalar_input_and_the_values_keep_their_names(models):
    plain, model = models
    (_, budget) = model.graph.input
    assert budget.name == "budget"
    assert budget.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert budget.type.tensor_type.HasField("shape")
    assert not budget.type.tensor_type.shape.dim
    assert gates_of(model) == gates_of(plain)
    made_by = {name: node for node in model.graph.node for name in node.output}
    assert {made_by[f"{gate}.logits"].op_type for gate in ("first", "last")} == {"Add"}
    assert made_by["pool.gate.logits"].op_type == "Conv"
    noted = {entry.key: entry.value for entry in model.metadata_props}
    assert noted["pagdeploy.budget_input"] == "budget"
    assert '"budget": []' in noted["pagdeploy.example_shapes"]


@pytest.mark.parametrize("lowering", ["reference", "gather", "dense"])
def test_a_budget_of_zero_is_the_model_without_it(models, image, lowering):
    plain, model = models
    if lowering != "reference":
        plain, model = lower(plain, lowering), lower(model, lowering)
    wanted, got = answers(plain, image), answers(model, image, 0.0)
    assert wanted.keys() == got.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array, name)


def test_density_falls_as_the_budget_grows(models, image):
    _, model = models
    budgets = [-np.inf, -1e30, -1.0, -0.2, 0.0, 0.2, 1.0, 1e30, np.inf]
    found = [answers(model, image, budget) for budget in budgets]
    for gate in ("first", "last"):
        masks = [answer[f"{gate}.selection"] for answer in found]
        for more, fewer in itertools.pairwise(masks):
            assert np.all(fewer <= more), "a pixel that is skipped stays so"
        assert masks[0].min() == masks[1].min() == 1 and masks[-1].max() == masks[-2].max() == 0
        assert 0 < masks[4].mean() < 1
    # The features behind the first gate differ, but what the pool's gate reads is not shifted.
    assert all(np.isfinite(answer["pool.gate.logits"]).all() for answer in found)
    assert all(np.isfinite(answer["output"]).all() for answer in found)


def test_the_score_of_computing_is_left_as_it_is(models, image):
    _, model = models
    at_zero, at_two = (answers(model, image, b)["first.logits"] for b in (0.0, 2.0))
    np.testing.assert_array_equal(at_two[:, 1], at_zero[:, 1])
    np.testing.assert_array_equal(at_two[:, 0], at_zero[:, 0] + np.float32(2))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_lowerings_with_a_budget_are_verified(models, image, lowering, precision):
    _, model = models
    asked = Precision(precision)
    engine = lower(model, lowering, precision=asked, emulated=True)
    rounded = None
    if precision != "fp32":
        rounded = lower(model, "plugin", precision=asked, emulated=True)
    given = {"x": image, "budget": np.array(0.1, np.float32)}
    verdict = verify_models(model, engine, given, precision=precision, rounded=rounded)
    assert verdict.passed, verdict.reason


def test_the_gate_path_stays_float32_with_a_budget(models):
    _, model = models
    half = onnx.shape_inference.infer_shapes(lower(model, "plugin", precision=Precision("fp16")))
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    for gate in gates_of(half):
        assert types[gate.logits] == onnx.TensorProto.FLOAT


def test_a_half_precision_model_takes_a_float32_budget(image):
    model = exported(net().half())
    reference = ReferenceEvaluator(expose(model, ["first.selection"]))
    given = {"x": image.astype(np.float16)}
    names = [*(value.name for value in model.graph.output), "first.selection"]
    masks = [
        reference.run(names, {**given, "budget": np.array(b, np.float32)})[-1]
        for b in (-100.0, 0.0, 100.0)
    ]
    assert masks[0].min() == 1 and masks[2].max() == 0
    assert 0 < masks[1].mean() < 1


def test_gates_that_are_left_alone_are_named(models, caplog):
    with caplog.at_level(logging.INFO, "pagdeploy"):
        assert add_budget(ir.from_proto(models[0]), "budget") == 2
    said = [r.getMessage() for r in caplog.records if r.name == "pagdeploy.exporters"]
    assert said == ["pool.gate (PAGGate) has no budget: it chooses among 3 branches"]


def test_logits_that_are_an_output_stay_without_the_budget(image):
    torch.manual_seed(0)
    model = exported(Shown(), output_names=["y", "scores"])
    (gate,) = gates_of(model)
    assert gate.logits.endswith(".logits")
    at_zero, at_one = (answers(model, image, b) for b in (0.0, 1.0))
    np.testing.assert_array_equal(at_zero["scores"], at_one["scores"])
    assert not np.array_equal(at_zero[gate.logits], at_one[gate.logits])


def test_models_and_names_without_room_for_a_budget_are_refused(models):
    both = onnx.parser.parse_model(BOTH_COMPUTE)
    for none_skips in (both, lower(both, "dense")):
        with pytest.raises(UsageError, match="no gate with two branches, of which one skips"):
            add_budget(ir.from_proto(none_skips), "budget")
    for taken in ("x", "output", "first.logits", "stem.weight", ""):
        with pytest.raises(UsageError, match=f"{taken!r} of the budget input is taken"):
            add_budget(ir.from_proto(models[0]), taken)
