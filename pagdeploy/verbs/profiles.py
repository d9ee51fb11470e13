"""Optimization profiles: which sizes an engine takes, and which it is made best for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagdeploy.errors import UsageError
from pagdeploy.manifest import Profile
from pagdeploy.verbs.inputs import read_shapes

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, Sequence[int]]


def shapes_by_profile(arguments: Sequence[str]) -> list[dict[str, list[int]]]:
    """Shapes of `--min-shapes` and its like, a mapping a profile.

    An input that comes again begins the next profile: `x:1x3x8x8,y:1x2` and then `x:1x3x16x16`
    are two.

    Raises:
        UsageError: an argument is spelt in no known way.
    """
    profiles: list[dict[str, list[int]]] = []
    for name, shape in read_shapes(arguments):
        if not profiles or name in profiles[-1]:
            profiles.append({})
        profiles[-1][name] = shape
    return profiles


def make_profiles(
    model: onnx.ModelProto,
    typical: Shapes,
    smallest: Sequence[Shapes] = (),
    expected: Sequence[Shapes] = (),
    largest: Sequence[Shapes] = (),
) -> list[dict[str, Profile]]:
    """Profiles of a model's dynamic inputs; empty if all its sizes are fixed.

    Args:
        model: Whose inputs they are.
        typical: One concrete shape an input; what is not asked for otherwise. The first profile
            reaches to it where it is not bounded.
        smallest: By profile; what is missing is as expected.
        expected: By profile; what is missing is the largest, or typical.
        largest: By profile; what is missing is as expected.

    Raises:
        UsageError: an input is unknown, or a shape is of another rank, contradicts a fixed size, or
            is smaller than the smallest one.
    """
    inputs = _dynamic_inputs(model)
    for shapes in (*smallest, *expected, *largest):
        for name in shapes:
            _require_known(name, inputs, model)
    count = max(1, len(smallest), len(expected), len(largest)) if inputs else 0
    return [
        {
            name: _profile(
                name,
                sizes,
                typical[name],
                _at(index, name, smallest, expected, largest),
                holds_typical=index == 0,
            )
            for name, sizes in inputs.items()
        }
        for index in range(count)
    ]


def _at(index: int, name: str, *lists: Sequence[Shapes]) -> list[list[int] | None]:
    return [
        list(shapes[index][name]) if index < len(shapes) and name in shapes[index] else None
        for shapes in lists
    ]


def _profile(
    name: str,
    sizes: Sequence[int | None],
    typical: Sequence[int],
    asked: Sequence[list[int] | None],
    holds_typical: bool,
) -> Profile:
    low, middle, high = asked
    opt = middle or high or list(typical)
    reach = list(typical) if holds_typical and len(typical) == len(opt) else opt
    profile = Profile(
        min=low or [min(pair) for pair in zip(opt, reach, strict=True)],
        opt=opt,
        max=high or [max(pair) for pair in zip(opt, reach, strict=True)],
    )
    for word, shape in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
        if len(shape) != len(sizes) or any(
            fixed not in (None, size) for fixed, size in zip(sizes, shape, strict=True)
        ):
            wanted = "x".join(str(size or "?") for size in sizes)
            raise UsageError(
                f"The {word} shape {_spelt(shape)} does not fit the input {name!r}.",
                remedy=f"The model wants {wanted}, where ? is any size.",
            )
    for a, b, c in zip(profile.min, profile.opt, profile.max, strict=True):
        if not a <= b <= c:
            raise UsageError(
                f"The profile of the input {name!r} is not in order: {_spelt(profile.min)},"
                f" {_spelt(profile.opt)}, {_spelt(profile.max)}.",
                remedy="No size may be below --min-shapes or above --max-shapes.",
            )
    return profile


def _dynamic_inputs(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = {
        value.name: [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in initial
    }
    return {name: sizes for name, sizes in inputs.items() if None in sizes}


def _require_known(name: str, dynamic: Mapping[str, object], model: onnx.ModelProto) -> None:
    if name in dynamic:
        return
    names = [value.name for value in model.graph.input]
    if name in names:
        raise UsageError(
            f"The input {name!r} has fixed sizes, so it has no profile.",
            remedy="Leave its shapes out; they are part of the model.",
        )
    raise UsageError(
        f"A shape is given for {name!r}, which is not an input.",
        remedy=f"The inputs are {', '.join(names)}.",
    )


def _spelt(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
