"""The numpy reference of PerforatedConv against torch's convolution in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagdeploy.ops import Activation, Mode
from pagdeploy.ops.perforated_conv_reference import perforated_conv
from tests.compare import assert_close
from tests.models import Conv

torch = pytest.importorskip("torch", reason="the independent oracle is torch.nn.functional.conv2d")


@st.composite
def convs(draw):
    """A geometry whose kernel fits into the padded map."""
    small = st.integers(1, 3)
    group = draw(small)
    kernel, dilations = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [dilations[i] * (kernel[i] - 1) + 1 for i in range(2)]
    least = [max(1, reach[i] - pads[i] - pads[i + 2]) for i in range(2)]
    size = tuple(draw(st.integers(low, low + 5)) for low in least)
    return Conv(
        n=draw(st.integers(1, 2)),
        channels=group * draw(small),
        filters=group * draw(small),
        size=size,
        kernel_shape=kernel,
        strides=draw(st.tuples(small, small)),
        pads=pads,
        dilations=dilations,
        group=group,
    )


def oracle(operands, selection, conv, branch, mode, activation, alpha):
    """The op in torch, from the formula in the op's documentation."""
    x, w, b, base = (torch.from_numpy(operands[name]) for name in ("X", "W", "B", "base"))
    top, left, bottom, right = conv.pads
    c = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (left, right, top, bottom)),
        w,
        b,
        stride=conv.strides,
        dilation=conv.dilations,
        groups=conv.group,
    )
    activate = {
        Activation.NONE: lambda y: y,
        Activation.RELU: torch.relu,
        Activation.RELU6: torch.nn.functional.relu6,
        Activation.LEAKY_RELU: lambda y: torch.nn.functional.leaky_relu(y, alpha),
    }[activation]
    s = torch.from_numpy(selection) == branch
    if mode == Mode.REPLACE:
        return torch.where(s, activate(c), base).numpy()
    return activate(base + torch.where(s, c, torch.zeros((), dtype=c.dtype))).numpy()


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    conv=convs(),
    branch=st.integers(0, 3),
    branches=st.integers(1, 4),
    per_image=st.booleans(),
    zero_base=st.booleans(),
    mode=st.sampled_from(Mode),
    activation=st.sampled_from(Activation),
    alpha=st.floats(0.0, 2.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_reference_equals_torch(
    conv, branch, branches, per_image, zero_base, mode, activation, alpha, seed
):
    rng = np.random.default_rng(seed)
    operands = conv.operands(rng, "float64", zero_base=zero_base)
    operands["W"] *= 3  # far enough from zero for relu6 to clip
    selection = conv.selection(rng, branches)
    if per_image:
        selection = selection[:, :, :1, :1]
    actual = perforated_conv(
        **operands,
        selection=selection,
        **conv.attributes,
        branch=branch,
        mode=mode,
        activation=activation,
        alpha=alpha,
    )
    expected = oracle(operands, selection, conv, branch, mode, activation, alpha)
    assert_close(actual, expected, 1e-12, selection)
