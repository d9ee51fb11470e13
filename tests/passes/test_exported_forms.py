"""Masks and choices as PyTorch's exporters write them."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import onnx
import pytest

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of

torch = pytest.importorskip("torch", reason="the forms are written in PyTorch")
import torch.nn.functional as F  # noqa: E402

pytestmark = pytest.mark.slow

CHANNELS, SIZE = 4, 16
INDEX = torch.randint(80, (SIZE * SIZE,), generator=torch.Generator().manual_seed(0))
FIXED = (torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) < 0.3).float()


class Net(torch.nn.Module):
    """Two branches f and d, a score g, three scores l, and a form of masking over them."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.f = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.d = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2)
        self.g = torch.nn.Conv2d(CHANNELS, 1, 1)
        self.l = torch.nn.Conv2d(CHANNELS, 3, 1)
        self.form = form

    def forward(self, x):
        """Whatever the form makes of (N, C, H, W)."""
        return self.form(self, x)

    def best(self, x):
        """The branch of each pixel, int64 (N, 1, H, W)."""
        return self.l(x).argmax(1, keepdim=True)

    def hot(self, x):
        """The same as one-hot vectors, (N, 3, H, W)."""
        return F.one_hot(self.best(x)[:, 0], 3).permute(0, 3, 1, 2).float()

    def run(self, x):
        """Whether a pixel is active, bool (N, 1, H, W)."""
        return self.g(x) > 0

    def branches(self, x):
        """The results to choose from."""
        return [self.f(x), self.d(x).relu(), x]


def assigned(net, x):
    """y[m] = f(x)[m], channels last."""
    mask, y = net.run(x).squeeze(1), x.permute(0, 2, 3, 1).clone()
    y[mask] = net.f(x).permute(0, 2, 3, 1)[mask]
    return y.permute(0, 3, 1, 2)


def assigned_wide(net, x):
    """y[m] = f(x)[m], with a mask for every channel."""
    mask, y = net.run(x).expand_as(x), x.clone()
    y[mask] = net.f(x)[mask]
    return y


def selected_and_scattered(net, x):
    """masked_scatter of what the same mask has selected."""
    mask = net.run(x).expand_as(x)
    return x.masked_scatter(mask, net.f(x)[mask])


def dilated(net, x):
    """The mask, dilated by a convolution of ones."""
    return F.conv2d(net.run(x).float(), torch.ones(1, 1, 3, 3), padding=1)


def coarse(net, x):
    """A mask per 2x2 patch, (N, 1, H / 2, W / 2)."""
    return (F.avg_pool2d(net.g(x), 2) > 0).float()


def assigned_ones(net, x):
    """A map of zeros, 1 where the score is positive."""
    score = net.g(x)
    mask = torch.zeros_like(score)
    mask[score > 0] = 1
    return net.f(x) * mask


def halting(net, x):
    """Ones, of which every score may take some away."""
    mask = torch.ones_like(x[:, :1])
    for score in (net.g(x), net.l(x)[:, :1]):
        mask = mask * (score < 0.3).float()
    return net.f(x) * mask


def thresholded(net, x):
    """BlockDrop's released way: a copy of the probabilities, assigned to twice."""
    policy = torch.sigmoid(net.g(x)).clone()
    policy[policy < 0.5] = 0.0
    policy[policy >= 0.5] = 1.0
    return net.f(x) * policy


def filled(net, x):
    """Both sides of a threshold, filled."""
    p = torch.sigmoid(net.g(x))
    return net.f(x) * p.masked_fill(p > 0.5, 1.0).masked_fill(p <= 0.5, 0.0)


def per_image(net, x):
    """SkipNet's way: one decision an image, in the shape that the batch's size is read for."""
    v = (torch.sigmoid(net.g(x).mean((1, 2, 3))) > 0.5).float()
    return net.f(x) * v.view(v.size(0), 1, 1, 1)


def five_axes(net, x):
    """LASNet's way: pairs of scores for each of one group of channels, (N, 2, 1, H, W)."""
    scores = net.l(x)[:, :2]
    n, c, h, w = scores.shape
    return net.f(x) * (scores.view(n, 2, c // 2, h, w).argmax(1) == 0).float()


def five_axes_compared(net, x):
    """The same, compared: a tie belongs to the first."""
    scores = net.l(x)[:, :2]
    n, c, h, w = scores.shape
    scores = scores.view(n, 2, c // 2, h, w)
    return net.f(x) * (scores[:, 0] >= scores[:, 1]).float()


def channels_last(net, x):
    """One-hot vectors of scores (N, H, W, 3)."""
    hot = F.one_hot(net.l(x).permute(0, 2, 3, 1).softmax(-1).argmax(-1), 3).float()
    return net.f(x) * hot[..., 1].unsqueeze(1)


# Written with full maps of one number, with the batch's size, or along another axis.
OF_ANY_SIZE = {
    "where(g > 0, ones, zeros)": lambda n, x: (
        n.f(x) * torch.where(n.run(x), torch.ones_like(n.g(x)), torch.zeros_like(n.g(x)))
    ),
    "zeros | m": lambda n, x: torch.where(
        torch.zeros_like(x[:, :1], dtype=torch.bool) | n.run(x), n.f(x), x
    ),
    "m[g > 0] = 1": assigned_ones,
    "halting": halting,
    "p[p < 0.5] = 0; p[p >= 0.5] = 1": thresholded,
    "two masked fills": filled,
    "one image's v.view(v.size(0), 1, 1, 1)": per_image,
    "five axes": five_axes,
    "five axes, compared": five_axes_compared,
    "channels last": channels_last,
    "argmax(-1)": lambda n, x: torch.where(
        n.l(x).permute(0, 2, 3, 1).argmax(-1).unsqueeze(1) == 1, n.f(x), x
    ),
    "clamp(max=1)": lambda n, x: n.f(x) * dilated(n, x).clamp(max=1),
    "repeat": lambda n, x: n.f(x) * n.run(x).float().repeat(1, CHANNELS, 1, 1),
    "expand": lambda n, x: torch.where(n.run(x).expand(-1, CHANNELS, -1, -1), n.f(x), x),
}
FORMS = {
    "stack, gather": lambda n, x: torch.stack(n.branches(x)).gather(
        0, n.best(x).expand_as(x)[None]
    )[0],
    "stack, one-hot, sum": lambda n, x: (torch.stack(n.branches(x), 1) * n.hot(x).unsqueeze(2)).sum(
        1
    ),
    "stack, einsum": lambda n, x: torch.einsum(
        "nkchw,nkhw->nchw", torch.stack(n.branches(x), 1), n.hot(x)
    ),
    "lerp": lambda n, x: torch.lerp(x, n.f(x), n.run(x).float()),
    "y[m] = f[m]": assigned,
    "y[m] = f[m], wide": assigned_wide,
    "masked_scatter of f[m]": selected_and_scattered,
    "relu(sign)": lambda n, x: n.f(x) * F.relu(torch.sign(n.g(x))),
    "clamp(conv of ones)": lambda n, x: n.f(x) * dilated(n, x).clamp(0, 1),
    "where(m.bool())": lambda n, x: torch.where(n.run(x).float().bool(), n.f(x), x),
    "masked_fill": lambda n, x: n.f(x).masked_fill(~n.run(x), 0),
    "constant > g": lambda n, x: n.f(x) * (torch.tensor(0.3) > n.g(x)),
    "ne": lambda n, x: torch.where(n.best(x).ne(0), n.f(x), x),
    "xor": lambda n, x: n.f(x) * torch.logical_xor(n.run(x), n.l(x)[:, :1] > 0),
    "1 - m": lambda n, x: n.f(x) * (1 - n.run(x).float()),
    "round(sigmoid)": lambda n, x: n.f(x) * torch.round(torch.sigmoid(n.g(x))),
    "round(clamp)": lambda n, x: n.f(x) * torch.round(n.g(x).clamp(0, 1)),
    "argmin": lambda n, x: torch.where(n.l(x).argmin(1, keepdim=True) == 0, n.f(x), x),
    "repeat_interleave": lambda n, x: (
        n.f(x) * coarse(n, x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    ),
    "constant mask": lambda n, x: n.f(x) * FIXED,
    "constant index": lambda n, x: n.f(x).flatten(2).index_select(2, INDEX).view(x.shape),
}
# What only one of the exporters can write down, or what only one of them writes so plainly.
DYNAMO_ONLY = {
    "take_along_dim": lambda n, x: torch.take_along_dim(
        torch.stack(n.branches(x)), n.best(x)[None], 0
    )[0],
    "heaviside": lambda n, x: n.f(x) * torch.heaviside(n.g(x), torch.tensor(0.0)),
    "constant rows and columns": lambda n, x: n.f(x)[:, :, INDEX // SIZE, INDEX % SIZE],
    "gather with a constant index": lambda n, x: n.f(x).flatten(2).gather(
        2, INDEX.expand(len(x), CHANNELS, -1)
    ),
}  # fmt: skip
STACKED = [form for name, form in {**FORMS, **DYNAMO_ONLY}.items() if "stack" in name]
STACKED.append(DYNAMO_ONLY["take_along_dim"])
REFUSED = {
    "masked_scatter": lambda n, x: x.masked_scatter(n.run(x).expand_as(x), n.f(x)),
    "heaviside(g, 0.5)": lambda n, x: n.f(x) * torch.heaviside(n.g(x), torch.tensor(0.5)),
    "soft stack": lambda n, x: (torch.stack(n.branches(x), 1) * n.l(x).softmax(1).unsqueeze(2)).sum(
        1
    ),
    "soft lerp": lambda n, x: torch.lerp(x, n.f(x), n.g(x).sigmoid()),
    "clamp(average)": lambda n, x: n.f(x) * F.avg_pool2d(n.run(x).float(), 3, 1, 1).clamp(0, 1),
}


def exported(form, dynamo, images=2, dynamic=False):
    """A model, its input and what PyTorch makes of it."""
    network, x = Net(form).eval(), torch.randn(images, CHANNELS, SIZE, SIZE)
    axes = {0: "n", 2: "h", 3: "w"} if dynamic else None
    file = io.BytesIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(
                network, (x,), dynamo=True, opset_version=18, verbose=False,
                dynamic_shapes=(axes,) if dynamic else None,
            )  # fmt: skip
            model = program.model_proto
        else:
            torch.onnx.export(
                network, (x,), file, opset_version=17, dynamo=False,
                input_names=["x"], dynamic_axes={"x": axes} if dynamic else None,
            )  # fmt: skip
            model = onnx.load_from_string(file.getvalue())
        return model, {model.graph.input[0].name: x.numpy()}, network(x).numpy()


CASES = [(name, form, dynamo) for name, form in FORMS.items() for dynamo in (True, False)]
CASES += [(name, form, True) for name, form in DYNAMO_ONLY.items()]


@pytest.mark.parametrize(
    ("form", "dynamo"), [case[1:] for case in CASES], ids=[f"{c[0]}-{c[2]}" for c in CASES]
)
def test_exported_form_is_perforated(form, dynamo):
    model, feeds, wanted = exported(form, dynamo)
    count = ops_of(lower(model, "plugin"))["PerforatedConv"]
    assert count == (2 if form in STACKED else 1)
    for lowering in ("gather", "dense"):
        (found,) = run_onnxruntime(lower(model, lowering), feeds)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("images", "dynamo"), [(1, True), (1, False), (None, True)])
@pytest.mark.parametrize("form", OF_ANY_SIZE)
def test_exported_form_is_found_for_one_image_and_for_any_size(form, images, dynamo):
    case = (OF_ANY_SIZE[form], dynamo, images or 2, images is None)
    model, feeds, wanted = exported(*case)
    assert ops_of(lower(model, "plugin"))["PerforatedConv"] == 1
    for lowering in ("gather", "dense"):
        (found,) = run_onnxruntime(lower(model, lowering), feeds)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", REFUSED)
def test_exported_form_that_stays(form):
    model, feeds, wanted = exported(REFUSED[form], dynamo=True)
    lowered = lower(model, "plugin")
    assert ops_of(lowered)["PerforatedConv"] == 0
    (found,) = run_onnxruntime(attach_bodies(lowered), feeds)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
