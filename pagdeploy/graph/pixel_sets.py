"""Sets of pixels that liveness speaks of: by decisions, by the windows of others, or constant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.masks import Decision


@dataclass(frozen=True)
class Everywhere:
    """Every pixel.

    Attributes:
        why: Who reads them, as a clause.
    """

    why: str = field(compare=False)


@dataclass(frozen=True)
class Chosen:
    """The pixels for which a decision says one of some branches."""

    decision: Decision
    branches: frozenset[int]


@dataclass(frozen=True)
class Fixed:
    """The same pixels in every image, known before the model runs.

    Attributes:
        size: Height and width of the map.
        flags: One byte a pixel, row by row; 1 where it belongs to the set.
    """

    size: tuple[int, int]
    flags: bytes

    @staticmethod
    def of(flags: npt.NDArray[np.bool_]) -> Fixed:
        """From bool, (H, W)."""
        return Fixed((flags.shape[0], flags.shape[1]), flags.astype(np.uint8).tobytes())

    def array(self) -> npt.NDArray[np.bool_]:
        """Whether each pixel belongs to the set: bool, (H, W)."""
        return np.frombuffer(self.flags, np.uint8).reshape(self.size).astype(np.bool_)

    @property
    def share(self) -> float:
        """Of the pixels, between 0 and 1."""
        return self.flags.count(1) / max(1, len(self.flags))

    def read_by(
        self,
        size: tuple[int, int],
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
    ) -> Fixed:
        """The pixels of an input of that size that lie in the windows of these output pixels."""
        rows, columns = np.nonzero(self.array())
        read = np.zeros(size, np.bool_)
        for tap in np.ndindex(*kernel):
            y = rows * strides[0] - pads[0] + tap[0] * dilations[0]
            x = columns * strides[1] - pads[1] + tap[1] * dilations[1]
            inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
            read[y[inside], x[inside]] = True
        return Fixed.of(read)


@dataclass(frozen=True)
class Windows:
    """The pixels in the windows of a region's pixels.

    Attributes:
        of: The region, of the output's pixels.
        kernel: Height and width of a window.
        strides: In y and x.
        pads: Top, left, bottom and right.
        dilations: In y and x.
        size_of: A value of the input's size, which follows from the output's only at stride 1.
    """

    of: Region
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    size_of: ir.Value | None


@dataclass(frozen=True)
class Either:
    """The pixels of any of some regions."""

    regions: frozenset[Chosen | Fixed | Windows]


Region = Chosen | Fixed | Windows | Either


def joined(regions: Iterable[Region]) -> Region | Everywhere:
    """The union, in its simplest form."""
    parts: dict[Chosen | Fixed | Windows, None] = {}
    for region in regions:
        parts.update(dict.fromkeys(region.regions if isinstance(region, Either) else [region]))
    inside: dict[Decision, frozenset[int]] = {}
    for part in parts:
        for inner in _contained(part):
            inside[inner.decision] = inside.get(inner.decision, frozenset()) | inner.branches
    fixed = [part for part in parts if isinstance(part, Fixed)]
    both = np.logical_or.reduce([part.array() for part in fixed]) if fixed else None
    complete = any(len(found) == decision.branches for decision, found in inside.items())
    if complete or (both is not None and both.all()):
        return Everywhere("its readers together read every pixel")
    merged: dict[Decision, frozenset[int]] = {}
    rest: list[Chosen | Fixed | Windows] = [] if both is None else [Fixed.of(both)]
    for part in parts:
        if isinstance(part, Chosen):
            merged[part.decision] = merged.get(part.decision, frozenset()) | part.branches
        elif isinstance(part, Windows):
            rest.append(part)
    simplest = frozenset([*(Chosen(d, found) for d, found in merged.items()), *rest])
    return next(iter(simplest)) if len(simplest) == 1 else Either(simplest)


def _contained(region: Region) -> list[Chosen]:
    """Choices whose pixels all lie in a region: a window with a tap in its centre has its own."""
    if isinstance(region, Chosen):
        return [region]
    if isinstance(region, Fixed):
        return []
    if isinstance(region, Either):
        return [chosen for each in region.regions for chosen in _contained(each)]
    centred = all(
        stride == 1 and pad % dilation == 0 and 0 <= pad // dilation < kernel
        for stride, pad, dilation, kernel in zip(
            region.strides, region.pads, region.dilations, region.kernel, strict=False
        )
    )
    return _contained(region.of) if centred else []


def choices_in(region: Region) -> list[Chosen]:
    """Every choice that a region is made of."""
    if isinstance(region, Chosen):
        return [region]
    if isinstance(region, Fixed):
        return []
    parts = region.regions if isinstance(region, Either) else [region.of]
    return [choice for part in parts for choice in choices_in(part)]


def decisions_of(region: Region) -> set[Decision]:
    """The decisions that a region depends on."""
    return {choice.decision for choice in choices_in(region)}


def has_windows(region: Region) -> bool:
    """Whether a region is more than the pixels of decisions or constants themselves."""
    if isinstance(region, Either):
        return any(has_windows(each) for each in region.regions)
    return isinstance(region, Windows)


def in_words(region: Region) -> str:
    """What has to hold at a pixel of a region, as a clause."""
    if isinstance(region, Chosen):
        branches = " or ".join(map(str, sorted(region.branches)))
        return f"{region.decision.value.name!r} says {branches}"
    if isinstance(region, Fixed):
        return f"it is one of {region.flags.count(1)} of {len(region.flags)} fixed pixels"
    if isinstance(region, Either):
        return " or ".join(sorted(in_words(each) for each in region.regions))
    size = "x".join(map(str, region.kernel))
    return f"a {size} window meets pixels where {in_words(region.of)}"


def flags_of(array: npt.NDArray[Any]) -> frozenset[int]:
    """The indices of a vector at which it is true."""
    return frozenset(int(index) for index in np.flatnonzero(array))
