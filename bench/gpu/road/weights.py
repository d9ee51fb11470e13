"""Weights that are made from a seed on both sides, so that they need not travel.

Uniform numbers from the raw bits of PCG64, whose stream numpy promises to keep, through exact
arithmetic only: the same bytes with every numpy on every machine. A stripped tensor keeps its
name, type and sizes; where its bytes come from stands in its `external_data`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

LOCATION = "generated"
MIN_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a tensor is made: uniform in [-bound, bound), then rounded to the dtype."""

    seed: int
    bound: float
    dtype: str = "float32"

    def make(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The tensor."""
        count = int(np.prod(shape))
        raw = np.random.PCG64(self.seed).random_raw((count + 1) // 2)
        words = np.asarray(raw, "<u8").view("<u4")[:count]
        # 24 bits fit a float32, and the bound is a power of two: no step rounds.
        unit = (words >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
        return (unit * np.float32(self.bound)).astype(self.dtype).reshape(shape)


def recipe_for(name: str, wanted_bound: float) -> Recipe:
    """A recipe that depends on a parameter's name, its bound rounded to a power of two."""
    return Recipe(zlib.crc32(name.encode()), float(2.0 ** np.round(np.log2(wanted_bound))))


class Cookbook:
    """Recipes by the bytes they make."""

    def __init__(self) -> None:
        self._recipes: dict[str, Recipe] = {}

    def make(self, recipe: Recipe, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Make a tensor and remember how, in both precisions."""
        made = recipe.make(shape)
        for dtype in ("float32", "float16"):
            rounded = dataclasses.replace(recipe, dtype=dtype)
            self._recipes[digest(made.astype(dtype))] = rounded
        return made

    def strip(self, model: onnx.ModelProto) -> int:
        """Take out every large initializer that a recipe makes; returns the bytes saved."""
        saved = 0
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            key = digest(array)
            recipe = self._recipes.get(key)
            if recipe is None or array.nbytes < MIN_BYTES:
                continue
            saved += array.nbytes
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.ClearField("int32_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            entries = {"location": LOCATION, "sha256": key, **dataclasses.asdict(recipe)}
            for name, value in entries.items():
                tensor.external_data.add(key=name, value=str(value))
        return saved


def refill(model: onnx.ModelProto) -> int:
    """Make the tensors that were taken out; returns how many.

    Raises:
        ValueError: one comes out otherwise than it was, or lies in another file.
    """
    count = 0
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry: Mapping[str, str] = {e.key: e.value for e in tensor.external_data}
        if entry.get("location") != LOCATION:
            raise ValueError(f"the weights of {tensor.name} lie in another file")
        recipe = Recipe(int(entry["seed"]), float(entry["bound"]), entry["dtype"])
        array = recipe.make(tuple(tensor.dims))
        if digest(array) != entry["sha256"]:
            raise ValueError(f"the generated weights of {tensor.name} are not what they were")
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        count += 1
    return count


def digest(array: npt.NDArray[Any]) -> str:
    """Of type, sizes and bytes."""
    head = f"{array.dtype.name} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
