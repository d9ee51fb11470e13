"""The segmentation-aware modules: what they compute, learn, and are exported as."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pagdeploy.bundle import open_bundle
from pagdeploy.exporters.from_torch import export
from pagdeploy.exporters.models import segaware
from pagdeploy.exporters.models.parts import example_images
from pagdeploy.exporters.seg_aware import BilateralFilter2d, SegAwareConv2d
from pagdeploy.exporters.torch_ops import seg_aware_conv
from pagdeploy.ops import DOMAIN, Normalization, Outside
from pagdeploy.ops import seg_aware_conv_reference as reference
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify
from tests.compare import assert_close
from tests.models import run_onnxruntime
from tests.seg_aware import GEOMETRIES, operands_of


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_torch_op_equals_the_reference(geometry, normalization):
    conv, row = GEOMETRIES[geometry], list(GEOMETRIES).index(geometry)
    operands = operands_of(conv, np.random.default_rng(row))
    choice = {"distance": 1 + row % 2, "normalization": int(normalization), "epsilon": 0.01}
    for outside in Outside:
        attributes = {**conv.attributes, **choice, "outside": int(outside)}
        expected = reference.seg_aware_conv(**operands, **attributes)
        del attributes["kernel_shape"]
        tensors = [torch.from_numpy(np.asarray(array)) for array in operands.values()]
        y = seg_aware_conv(*tensors, **{k: _plain(v) for k, v in attributes.items()})
        assert_close(y.numpy(), expected, 1e-5)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("form", ["none", "softmax"])
@pytest.mark.parametrize("distance", [1, 2])
def test_the_layer_is_that_of_the_authors(form, distance):
    torch.manual_seed(0)
    ours = SegAwareConv2d(
        3, 5, 3, padding=2, dilation=2, normalization=form, distance=f"l{distance}"
    )
    theirs = segaware.SegAwareConv2d(3, 5, 3, 2, normalized=form == "softmax")
    with torch.no_grad():
        ours.hardness.fill_(-0.7 if form == "none" else 0.7)
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
        theirs.scale.copy_(ours.hardness)
    x, e = torch.randn(2, 3, 9, 8), torch.randn(2, 4, 9, 8)
    expected = theirs(x, segaware.embedding_distance(e, 3, 2, norm=distance))
    torch.testing.assert_close(ours(x, e), expected)


def test_the_filter_is_that_of_the_authors():
    torch.manual_seed(0)
    x, e = torch.randn(2, 3, 12, 11), 0.05 * torch.randn(2, 4, 12, 11)
    torch.testing.assert_close(BilateralFilter2d(3)(x, e), segaware.bilateral_filter(x, e))
    assert not BilateralFilter2d(3).state_dict(), "it learns nothing"


@pytest.mark.parametrize("form", ["none", "softmax"])
def test_everything_that_is_learned_has_its_gradient(form):
    torch.manual_seed(0)
    layer = SegAwareConv2d(2, 2, 3, padding=1, normalization=form).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    e = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    layer(x, e).square().sum().backward()
    for tensor in (x, e, layer.weight, layer.bias, layer.hardness):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_layers_may_share_their_hardness():
    shared = nn.Parameter(torch.tensor(2.0))
    one, other = (SegAwareConv2d(2, 2, 3, padding=1, hardness=shared) for _ in range(2))
    assert one.hardness is other.hardness
    assert SegAwareConv2d(2, 2, 3).hardness.item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kernel_size": 4}, "a window of the even size 4 has no centre"),
        ({"kernel_size": 3, "padding": 2}, "a padding of 2 puts the centre of a window outside"),
        ({"kernel_size": 3, "padding": "same"}, "needs zero padding, given as numbers"),
        ({"kernel_size": 3, "padding_mode": "reflect"}, "needs zero padding"),
        ({"kernel_size": 3, "distance": "l3"}, "unknown distance or outside: 'L3'"),
        ({"kernel_size": 3, "normalization": "bilateral"}, "unknown normalization: 'bilateral'"),
    ],
)
def test_impossible_layers_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        SegAwareConv2d(2, 2, **arguments)
    if arguments == {"kernel_size": 4}:
        with pytest.raises(ValueError, match=text):
            BilateralFilter2d(2, 4)


class Forms(nn.Module):
    """Every form over one embedding, and one with a stride."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 4, 3, padding=1)
        self.plain = SegAwareConv2d(3, 6, 3, padding=1)
        self.normalised = SegAwareConv2d(6, 4, 3, padding=2, dilation=2, normalization="softmax")
        self.grouped = SegAwareConv2d(
            4, 4, (3, 5), padding=(1, 2), groups=2, bias=False, distance="l2", outside="removed"
        )
        self.smooth = BilateralFilter2d(4, 5, hardness=5.0)
        self.halved = SegAwareConv2d(4, 2, 3, stride=2, padding=1)

    def forward(self, image):
        e = self.embed(image)
        x = self.grouped(torch.relu(self.normalised(torch.relu(self.plain(image, e)), e)), e)
        return self.halved(self.smooth(x, e), e)


@pytest.mark.parametrize("opset", [17, 18])
def test_each_call_becomes_one_node_named_after_its_module(opset):
    model = Forms().eval()
    proto = export(model, (torch.rand(2, 3, 16, 18),), opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    ours = {node.name: node for node in proto.graph.node if node.domain == DOMAIN}
    assert list(ours) == ["plain", "normalised", "grouped", "smooth", "halved"]
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in ours.values():
        assert node.op_type == "SegAwareConv"
        assert len(node.input) == 5
        assert set(node.input[2:]) <= set(constants), "the absolute value is computed at export"
    lambdas = [onnx.numpy_helper.to_array(constants[n.input[4]]) for n in ours.values()]
    np.testing.assert_allclose(lambdas, [0.1, 0.1, 0.1, 5.0, 0.1], rtol=1e-6)
    for size in ((2, 3, 16, 18), (1, 3, 9, 25)):
        image = torch.rand(*size)
        with torch.no_grad():
            expected = model(image).numpy()
        assert_close(run_onnxruntime(proto, {"image": image.numpy()})[0], expected, 1e-5)


def test_half_precision_models_are_exported():
    model = Forms().eval().half()
    proto = export(model, (torch.rand(1, 3, 8, 10).half(),))
    image = torch.rand(2, 3, 8, 10).half()
    with torch.no_grad():
        expected = model(image).numpy()
    assert_close(run_onnxruntime(proto, {"image": image.numpy()})[0], expected, 1e-2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_of_all_forms_is_built_and_verified(tmp_path, precision):
    network, bundle = segaware.ours(), tmp_path / "m.pagbundle"
    images = example_images(1, 32, seed=1)
    export(network, (images,), tmp_path / "m.onnx")
    feeds = {"image": images.numpy()}
    build(tmp_path / "m.onnx", bundle, engine="onnxruntime", precision=precision, inputs=feeds)
    assert verify(bundle).passed
    assert open_bundle(bundle)
