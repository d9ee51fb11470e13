"""Inputs and outputs get names, and a model that cannot be exported is refused with its reason."""

from __future__ import annotations

import collections

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pagdeploy.errors import UsageError
from pagdeploy.exporters.from_torch import export


class Of(nn.Module):
    """A module of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y=None):
        return self.function(x) if y is None else self.function(x, y)


def of(function):
    return Of(function).eval()


X = torch.rand(1, 3, 8, 8)
Named = collections.namedtuple("Named", ["sum", "difference"])


def test_inputs_share_axis_names_only_where_the_model_makes_them_equal():
    def dims(proto):
        return [
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in proto.graph.input
        ]

    together = export(of(lambda x, y: Named(x + y, x - y)), (X, X))
    assert dims(together) == [["batch", 3, "height", "width"]] * 2
    assert [output.name for output in together.graph.output] == ["sum", "difference"]
    apart = export(of(lambda x, y: (x + 1, y * 2)), (X, X))
    assert dims(apart) == [["batch", 3, "height", "width"], ["y_batch", 3, "y_height", "y_width"]]
    assert [output.name for output in apart.graph.output] == ["output_0", "output_1"]
    fixed = export(of(lambda x: x + 1), (X,), dynamic_shapes={"x": {3: "columns"}})
    assert dims(fixed) == [[1, 3, 8, "columns"]]


def refused(*arguments, **options):
    with pytest.raises(UsageError) as caught:
        export(*arguments, **options)
    return str(caught.value)


def test_training_mode_is_refused():
    assert refused(nn.BatchNorm2d(3), (X,)) == (
        "The model is in training mode (<root>). Call model.eval() before export."
    )
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).eval()
    model[1].train()
    assert "training mode (1)" in refused(model, (X,))
    program = torch.export.export(
        nn.Sequential(nn.BatchNorm2d(3)).train(), (torch.rand(2, 3, 8, 8),)
    )
    assert refused(program) == (
        "The program was exported in training mode (batch_norm). "
        "Call model.eval() before torch.export.export."
    )


def test_random_numbers_are_refused_and_leave_the_old_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    model = nn.Sequential(of(lambda x: F.gumbel_softmax(x, hard=True, dim=1))).eval()
    assert refused(model, (X,), path) == (
        "The model draws random numbers in evaluation: RandomUniformLike in 0. "
        "Make it deterministic in evaluation mode, such as by a hard argmax."
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_forward_is_named():
    model = of(lambda x: x @ torch.ones(3, 3))
    assert refused(model, (X,)).startswith(
        "The model fails on the example input of shape (1, 3, 8, 8): RuntimeError: mat1 and mat2"
    )
    assert "TypeError" in refused(of(lambda x: x), (X, X, X))


def test_control_flow_on_values_is_named(capfd):
    message = refused(of(lambda x: x if x.sum() > 0 else -x), (X,))
    assert message.startswith("PyTorch's exporter cannot express the model (")
    assert "data-dependent" in message
    assert capfd.readouterr() == ("", "")


def test_outputs_that_are_no_tensors_are_named():
    nested = of(lambda x: (x, [x, x]))
    assert "does not return tensors: output_1 is of type list." in refused(nested, (X,))
    number = of(lambda x: {"loss": 3.0})
    assert "does not return tensors: loss is of type float." in refused(number, (X,))
    assert "does not return tensors: the result is of type int." in refused(of(lambda x: 3), (X,))


def test_wrong_names_and_options_are_refused():
    model = of(lambda x: (x, x + 1))
    assert "The name 'x' is used for more than one" in refused(model, (X,), output_names=["x", "y"])
    assert "1 output names were given for 2 outputs." in refused(model, (X,), output_names=["y"])
    assert "2 input names were given for 1 inputs." in refused(model, (X,), input_names=["a", "b"])
    assert "Opset 16 cannot be written. Ask for 17 to" in refused(model, (X,), opset=16)
    assert "are not a sequence of tensors" in refused(model, (3,))
    assert "no input 'z' to have" in refused(model, (X,), dynamic_shapes={"z": {0: "n"}})
    assert "'x' has no axis 4." in refused(model, (X,), dynamic_shapes={"x": {4: "n"}})
    sizes = {"x": {0: "n", 3: "n"}}
    assert "'n' stands for the sizes 1 and 8." in refused(model, (X,), dynamic_shapes=sizes)


def test_an_axis_that_the_model_fixes_is_named():
    model = of(lambda x: x * 2 if x.shape[2] == 8 else x)
    assert refused(model, (X,)) == (
        "The model works only with size 8 on axis 2 of 'x'. "
        "Leave that axis out of dynamic_shapes; {} fixes every size."
    )
