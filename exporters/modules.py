"""The building blocks of a gated network: differentiable in training, one op each in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.exporters.norms import affine_of, make_norm
from pagdeploy.exporters.torch_ops import activate, pag_gate, perforated_conv
from pagdeploy.ops import Activation, Mode


class PAGGate(nn.Module):
    """A per-pixel decision between K branches.

    Training: Gumbel-softmax with the noise of the official `GumbelNoisySoftMax` layer
    (p <- (p + 1e-3)/1.001, u = (rand + 1e-5)/1.001, y = softmax((log p - log(-log u))/t)), made
    hard with the straight-through estimator (Jang et al. 2017, arXiv 1611.01144). Evaluation:
    hard argmax of the logits, no noise; the lowest index wins a tie. For two branches index 0 is
    "pass" and 1 is "compute", so that a tie skips, as in the official code.

    Args:
        head: Maps the features (N, C, H, W) to logits (N, K, H', W').
        blur: Smooth the logits with a fixed 3x3 box of 1/9 and zero padding, after the bias
            (the official optional "GaussBlur").
        temperature: Gumbel-softmax temperature; the official default is 0.1.

    Attributes:
        mask: In training, the one-hot decision of the last call, (N, K, H, W), with a gradient.
        probabilities: In training, softmax of the logits of the last call, (N, K, H, W).
        noise: Set to False to train on the noise-free hard decision. Raise the temperature then,
            to 1 say: at 0.1 almost no pixel is close enough to its tie to have a gradient.
    """

    def __init__(self, head: nn.Module, *, blur: bool = False, temperature: float = 1.0) -> None:
        super().__init__()
        self.head = head
        self.blur = blur
        self.temperature = temperature
        self.noise = True
        self.mask: Tensor | None = None
        self.probabilities: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the one-hot mask (N, K, H, W) in training, the int32 selection (N, 1, H, W) else.

        Args:
            x: Features, float, (N, C, H, W).
        """
        logits = self.head(x)  # (N, K, H, W)
        if self.blur:
            logits = F.avg_pool2d(logits, 3, stride=1, padding=1)  # (N, K, H, W)
        if self.training:
            return self._sample(logits)
        self.mask = self.probabilities = None
        selection: Tensor = pag_gate(logits)  # (N, 1, H, W)
        return selection

    def _sample(self, logits: Tensor) -> Tensor:
        self.probabilities = logits.softmax(1)  # (N, K, H, W)
        scores = torch.log((self.probabilities + 1e-3) / 1.001)
        if self.noise:
            uniform = (torch.rand_like(scores) + 1e-5) / 1.001
            scores = scores - torch.log(-torch.log(uniform))
        soft = (scores / self.temperature).softmax(1)
        hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
        self.mask = hard + (soft - soft.detach())  # exactly hard, with the gradient of soft
        return self.mask


class PerforatedConv2d(nn.Conv2d):
    """A convolution, its norm and its activation, evaluated at the pixels that take one branch.

    The other pixels show `base`. In `replace` mode y = s ? act(norm(conv(x))) : base; in `add`
    mode y = act(base + (s ? norm(conv(x)) : 0)). Takes the arguments of nn.Conv2d, and:

    Args:
        branch: The value of the selection for which the convolution is evaluated.
        mode: "replace" or "add".
        activation: "none", "relu", "relu6" or "leaky_relu".
        alpha: Negative slope of leaky relu.
        norm: A normalisation of the convolution's output; folded into the weights in evaluation.

    Raises:
        ValueError: padding is a string or not with zeros; mode or activation is unknown.
    """

    def __init__(
        self,
        *args: Any,
        branch: int = 1,
        mode: str = "replace",
        activation: str = "none",
        alpha: float = 0.01,
        norm: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise ValueError("PerforatedConv2d needs zero padding, given as numbers")
        try:
            self.mode = Mode[mode.upper()]
            self.activation = Activation[activation.upper()]
        except KeyError as unknown:
            raise ValueError(f"unknown mode or activation: {unknown}") from None
        self.branch = branch
        self.alpha = alpha
        self.norm = norm

    def forward(
        self, x: Tensor, selection: Tensor | None = None, base: Tensor | None = None
    ) -> Tensor:
        """Return y, (N, Co, Ho, Wo).

        Args:
            x: Input, float, (N, C, H, W).
            selection: What a PAGGate returned: one-hot (N, K, Ho, Wo) in training, int32
                (N, 1, Ho, Wo) in evaluation. None evaluates every pixel (the dense twin).
            base: What an inactive pixel shows, broadcastable to y; None is zero.
        """
        if selection is None:
            return self._dense(x, base)
        if not self.training:
            weight, bias = self.folded_parameters()
            top, left = int(self.padding[0]), int(self.padding[1])
            y: Tensor = perforated_conv(
                x,
                selection,
                weight,
                bias,
                base,
                strides=list(self.stride),
                pads=[top, left, top, left],
                dilations=list(self.dilation),
                group=self.groups,
                branch=self.branch,
                mode=int(self.mode),
                activation=int(self.activation),
                alpha=self.alpha,
            )
            return y
        m = selection[:, self.branch : self.branch + 1]  # (N, 1, Ho, Wo)
        c = self._normed(x)  # (N, Co, Ho, Wo)
        ground: Tensor | float = 0.0 if base is None else base
        if self.mode is Mode.ADD:
            return activate(ground + m * c, self.activation, self.alpha)
        return m * activate(c, self.activation, self.alpha) + (1 - m) * ground

    def folded_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight (Co, C/group, kh, kw) and bias (Co,) with the norm's running statistics in."""
        if self.norm is None:
            return self.weight, self.bias
        scale, shift = affine_of(self.norm)
        bias = shift if self.bias is None else shift + self.bias * scale
        return self.weight * scale[:, None, None, None], bias

    def fold_norm_(self) -> None:
        """Fold the norm into weight and bias for good, in place; export does it on a copy."""
        with torch.no_grad():
            weight, bias = self.folded_parameters()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.norm = None

    def _normed(self, x: Tensor) -> Tensor:
        c: Tensor = self._conv_forward(x, self.weight, self.bias)  # (N, Co, Ho, Wo)
        if self.norm is not None:
            c = self.norm(c)
        return c

    def _dense(self, x: Tensor, base: Tensor | None) -> Tensor:
        c = self._normed(x)  # (N, Co, Ho, Wo)
        if self.mode is Mode.ADD and base is not None:
            c = base + c
        return activate(c, self.activation, self.alpha)


class MultiPool(nn.Module):
    """Per pixel, one of K dilations of a 3x3 convolution (PAG paper, "pixel-wise pooling").

    Args:
        channels: C, of input and output.
        dilations: One per branch, in the order of the gate's logits; 0 copies the input.
        gate: Decides between the branches; K must equal len(dilations).
        norm: "batch" or "cha_atten"; every branch has its own, and a ReLU.
        tied: Share one weight tensor between the branches; the released networks do not.

    Raises:
        ValueError: a dilation occurs twice.
    """

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int],
        gate: PAGGate,
        *,
        norm: str = "batch",
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        if len(set(self.dilations)) != len(self.dilations):
            raise ValueError(f"the dilations {self.dilations} are not all different")
        self.gate = gate
        self.branches = nn.ModuleDict()
        for index, dilation in enumerate(dilations):
            if dilation == 0:
                continue
            self.branches[f"dilation{dilation}"] = PerforatedConv2d(
                channels,
                channels,
                3,
                padding=dilation,
                dilation=dilation,
                bias=False,
                branch=index,
                activation="relu",
                norm=make_norm(norm, channels),
            )
        if tied:
            convs = list(self.branches.values())
            for conv in convs[1:]:
                conv.weight = convs[0].weight

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W): at each pixel the branch that the gate chose."""
        selection = self.gate(x)
        if self.training:
            # A sum, not a chain: in a chain of blends one branch would cut off another's gradient.
            total: Tensor = selection.new_zeros(())
            for index, dilation in enumerate(self.dilations):
                y = x if dilation == 0 else self.branches[f"dilation{dilation}"](x)
                total = total + selection[:, index : index + 1] * y
            return total
        y = x if 0 in self.dilations else None  # each pixel takes exactly one branch
        for conv in self.branches.values():
            y = conv(x, selection, y)
        if y is None:
            raise ValueError("MultiPool needs at least one branch")
        return y


def sparsity_kl(mask: Tensor, target: float) -> Tensor:
    """KL(t || m1) + KL(1-t || m0), the official `spatialSparsityKLDLoss` for one gate.

    m1 and m0 are the means of the compute and the pass channel, and KL(a || b) is the divergence
    of two-outcome distributions, a log(a/b) + (1-a) log((1-a)/(1-b)).

    Args:
        mask: One-hot or soft decisions, (N, 2, H, W).
        target: Wanted density t, in (0, 1).
    """
    return _kl(target, mask[:, 1].mean()) + _kl(1 - target, mask[:, 0].mean())


def sparsity_mild(mask: Tensor, target: float) -> Tensor:
    """log(1 + (m0-(1-t))^2) + log(1 + (m1-t)^2), the official "mild" `spatialSparsityLoss`.

    Args:
        mask: One-hot or soft decisions, (N, 2, H, W).
        target: Wanted density t, in (0, 1).
    """
    skipped, computed = mask[:, 0].mean(), mask[:, 1].mean()
    return torch.log1p((skipped - (1 - target)) ** 2) + torch.log1p((computed - target) ** 2)


def sparsity_kl_combined(masks: Sequence[Tensor], target: float) -> Tensor:
    """`sparsity_kl` on the pixel-weighted mean of all gates: one target for the whole network.

    The official `spatialSparsityKLD_CombinedLoss`.

    Args:
        masks: One (N, 2, H, W) per gate; sizes may differ.
        target: Wanted density t of the network, in (0, 1).
    """
    pixels = torch.cat([mask.permute(0, 2, 3, 1).reshape(-1, 2) for mask in masks])  # (P, 2)
    return sparsity_kl(pixels[:, :, None, None], target)


def _kl(a: float, b: Tensor) -> Tensor:
    b = b * (1 - 2e-6) + 1e-6  # not a clamp: a gate that is always off must still feel a gradient
    return a * torch.log(a / b) + (1 - a) * torch.log((1 - a) / (1 - b))
