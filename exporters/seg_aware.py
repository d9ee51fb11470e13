"""Segmentation-aware convolution as modules: differentiable, and one op each when exported.

Harley, Derpanis and Kokkinos, ICCV 2017, arXiv 1708.04607; docs/ops.md has the formulas.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pagdeploy.exporters.torch_ops import seg_aware_conv
from pagdeploy.ops import Distance, Normalization, Outside


class SegAwareConv2d(nn.Conv2d):
    """A convolution whose neighbours count by how near their embeddings are to the centre's.

    Takes the arguments of nn.Conv2d, and:

    Args:
        normalization: "none": weights exp(-|lambda| d), as in the released networks; "softmax":
            their shares of the window's sum, as in the official `NormConv`, with lambda as it is.
        distance: "l1": sum of |difference|; "l2": half the sum of squares.
        outside: A neighbour outside of the image counts as "equal" to the centre, on a zero; or
            it is "removed" from the sum.
        hardness: The learned lambda, shape (); shared by layers if the same parameter is given.
            None makes one of 0.1, the official initial value.

    Raises:
        ValueError: padding is a string or not with zeros, or more than half of the kernel's reach;
            a kernel size is even; a word is unknown.
    """

    def __init__(
        self,
        *args: Any,
        normalization: str = "none",
        distance: str = "l1",
        outside: str = "equal",
        hardness: nn.Parameter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise ValueError("SegAwareConv2d needs zero padding, given as numbers")
        _require_centred(self.kernel_size, self.padding, self.dilation)
        if normalization not in ("none", "softmax"):
            raise ValueError(f"unknown normalization: {normalization!r}")
        self.normalization = Normalization[normalization.upper()]
        self.distance, self.outside = _chosen(distance, outside)
        if hardness is None:
            hardness = nn.Parameter(torch.tensor(0.1))
        self.hardness = hardness

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """Return y, (N, Co, Ho, Wo).

        Args:
            x: Input, float, (N, C, H, W).
            embedding: (N, D, H, W), of any number of channels.
        """
        is_plain = self.normalization is Normalization.NONE
        top, left = int(self.padding[0]), int(self.padding[1])
        y: Tensor = seg_aware_conv(
            x,
            embedding,
            self.weight,
            self.bias,
            self.hardness.abs() if is_plain else self.hardness,
            strides=list(self.stride),
            pads=[top, left, top, left],
            dilations=list(self.dilation),
            group=self.groups,
            distance=int(self.distance),
            normalization=int(self.normalization),
            outside=int(self.outside),
            epsilon=0.0,
        )
        return y


class BilateralFilter2d(nn.Module):
    """Smooths every channel within segments: sum w x / (sum w + epsilon), w = exp(-lambda d).

    Learns nothing. The defaults are those of the official smoothing of class scores, which applies
    it twice; there, whether neighbours outside of the image are removed is doubtful.

    Args:
        channels: C, of input and output.
        kernel_size: Side of the window, odd.
        dilation: Between the window's pixels.
        hardness: lambda.
        distance: See `SegAwareConv2d`.
        outside: Likewise; "equal" darkens the border.
        epsilon: See above.

    Raises:
        ValueError: the kernel size is even, or a word is unknown.
    """

    hardness: Tensor
    weight: Tensor

    def __init__(
        self,
        channels: int,
        kernel_size: int = 9,
        dilation: int = 1,
        *,
        hardness: float = 50.0,
        distance: str = "l1",
        outside: str = "removed",
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        _require_centred((kernel_size,), (0,), (dilation,))
        self.distance, self.outside = _chosen(distance, outside)
        self.dilation, self.epsilon = dilation, epsilon
        ones = torch.ones(channels, 1, kernel_size, kernel_size)
        self.register_buffer("weight", ones, persistent=False)
        self.register_buffer("hardness", torch.tensor(float(hardness)), persistent=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return the smoothed x, (N, C, H, W).

        Args:
            x: Input, float, (N, C, H, W).
            embedding: (N, D, H, W), of any number of channels.
        """
        pad = self.dilation * (self.weight.shape[2] // 2)
        y: Tensor = seg_aware_conv(
            x,
            embedding,
            self.weight,
            None,
            self.hardness,
            strides=[1, 1],
            pads=[pad] * 4,
            dilations=[self.dilation] * 2,
            group=self.weight.shape[0],
            distance=int(self.distance),
            normalization=int(Normalization.BILATERAL),
            outside=int(self.outside),
            epsilon=self.epsilon,
        )
        return y


def _chosen(distance: str, outside: str) -> tuple[Distance, Outside]:
    try:
        return Distance[distance.upper()], Outside[outside.upper()]
    except KeyError as unknown:
        raise ValueError(f"unknown distance or outside: {unknown}") from None


def _require_centred(
    kernel_size: tuple[int, ...], padding: tuple[int | str, ...], dilation: tuple[int, ...]
) -> None:
    for size, pad, step in zip(kernel_size, padding, dilation, strict=True):
        if size % 2 == 0:
            raise ValueError(f"a window of the even size {size} has no centre")
        if int(pad) > step * (size // 2):
            raise ValueError(f"a padding of {pad} puts the centre of a window outside of the image")
