"""Inputs for a model: photos, .npy and .npz files, numbers, or made up for want of better."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import read_arrays
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import is_file

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
_MAX_PIXELS = 64_000_000
_MAX_ELEMENTS = 2**28
_DEFAULT_SIZES = (1, 3, 256, 256)  # for dynamic sizes that nobody named


def read_image(path: Path, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """A photo as RGB in [0, 1], float32 (1, 3, H, W).

    Args:
        path: Any format that Pillow reads.
        size: (H, W) to resize to; None keeps the photo's own.

    Raises:
        UsageError: there is no such file, or it or the size is unreasonably large.
        IncompatibleArtifact: it is not an image, or it is damaged.
    """
    from PIL import Image, ImageOps

    if size is not None and size[0] * size[1] > _MAX_PIXELS:
        raise UsageError(
            f"{path} cannot be resized to {size[0]}x{size[1]}.",
            remedy=f"Give a size of at most {_MAX_PIXELS:,} pixels.",
        )
    if not is_file(path):
        raise UsageError(f"There is no image {path}.", remedy="Check the path.")
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if image.width * image.height > _MAX_PIXELS:
                raise UsageError(
                    f"{path} has {image.width} x {image.height} pixels.",
                    remedy=f"Give an image of at most {_MAX_PIXELS:,} pixels.",
                )
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except UsageError:
        raise
    except Exception:  # Pillow and its codecs raise a dozen types on damaged bytes
        raise IncompatibleArtifact(
            f"{path} is not an image, or it is damaged.", remedy="Open it in a viewer to check."
        ) from None
    if size is not None:
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(rgb, np.float32) / 255  # (H, W, 3)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def parse_inputs(
    arguments: Sequence[str],
    names: Sequence[str],
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Array]:
    """Inputs from `name=file` arguments; with one input the name may be left out.

    Args:
        arguments: Files are images, .npy, or .npz (all inputs at once). A number, as in
            `budget=0.5`, is a float32 of rank 0; a file of such a name is `./0.5`.
        names: Of the model's inputs.
        sizes: (H, W) to resize an input's image to; others keep their own.

    Raises:
        UsageError: a name is left out, or a file is missing.
        IncompatibleArtifact: a file cannot be read.
    """
    given: dict[str, Array] = {}
    for argument in arguments:
        name, equals, file = argument.partition("=")
        if not equals or (name not in names and is_file(Path(argument))):
            name, file = "", argument  # a path may hold a "=" of its own
        path = Path(file)
        if path.suffix == ".npz" and not name:
            given.update(read_arrays(path))
            continue
        if not name:
            if len(names) != 1:
                raise UsageError(
                    f"The input {argument!r} names no input.",
                    remedy=f"Write NAME=FILE; the inputs are {', '.join(names)}.",
                )
            name = names[0]
        number = _number(file)
        if number is not None:
            given[name] = number
        elif path.suffix == ".npy":
            given[name] = read_npy(path)
        else:
            given[name] = read_image(path, (sizes or {}).get(name))
    return given


def _number(text: str) -> npt.NDArray[np.float32] | None:
    try:
        return np.array(float(text), np.float32)
    except ValueError:
        return None


def requested(
    arguments: Sequence[str], shapes: Sequence[str], names: Sequence[str]
) -> dict[str, Array] | None:
    """Inputs that the user gave, each image resized to its input's shape; None if none.

    Args:
        arguments: As `parse_inputs`.
        shapes: As `parse_shapes`; the last two sizes of a shape are an image's.
        names: Of the model's inputs.

    Raises:
        UsageError, IncompatibleArtifact: as those two; and if an input is not of its shape.
    """
    if not arguments:
        return None
    asked = parse_shapes(shapes)
    _require_known(asked, names)
    sizes = {name: (shape[2], shape[3]) for name, shape in asked.items() if len(shape) == 4}
    given = parse_inputs(arguments, names, sizes)
    for name, shape in asked.items():
        if name in given and given[name].shape != tuple(shape):
            raise UsageError(
                f"The input {name!r} has the shape {_spelt(given[name].shape)}, not"
                f" {_spelt(shape)} as asked.",
                remedy="Leave --shapes out, or give an input of that shape.",
            )
    return given


def input_names(path: Path) -> list[str]:
    """Names of the inputs of an ONNX file or a bundle.

    Raises:
        UsageError, IncompatibleArtifact: as `read_model` and `open_bundle`.
    """
    from pagdeploy.bundle import open_bundle
    from pagdeploy.graph.read import read_model

    if path.is_dir():
        return [tensor.name for tensor in open_bundle(path).manifest.inputs]
    model = read_model(path)
    initial = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in initial]


def parse_shapes(arguments: Sequence[str]) -> dict[str, list[int]]:
    """Shapes from `name:1x3x480x640` or `name:[1,3,480,640]`, comma separated or repeated.

    Raises:
        UsageError: an argument is spelt otherwise.
    """
    return dict(read_shapes(arguments))


def read_shapes(arguments: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Name and shape, one after the other; names may come again."""
    import re

    pattern = re.compile(r"\s*([^:,\[\]]+):(?:\[([\d,\s]+)\]|(\d+(?:x\d+)*))\s*(?:,|$)")
    for argument in arguments:
        position = 0
        while position < len(argument):
            match = pattern.match(argument, position)
            sizes = [] if match is None else re.findall(r"\d+", match[2] or match[3])
            if match is None or any(len(size) > 9 or int(size) == 0 for size in sizes):
                raise UsageError(
                    f"The shape {argument!r} cannot be read.",
                    remedy="Write NAME:1x3x480x640, or NAME:[1,3,480,640].",
                )
            yield match[1].strip(), [int(size) for size in sizes]
            position = match.end()


def example_shapes(
    model: onnx.ModelProto, asked: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """One concrete shape per input: as asked, else as exported, else a guess for dynamic sizes.

    Raises:
        UsageError: a shape is asked for an input that does not exist, or of another rank, or it
            contradicts a fixed size.
    """
    exported = _exported_shapes(model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    names = [value.name for value in inputs]
    _require_known(asked, names)
    shapes = {}
    for value in inputs:
        fixed = [d.dim_value or None for d in value.type.tensor_type.shape.dim]
        guess = [
            size or _DEFAULT_SIZES[min(axis, 3)] if len(fixed) == 4 else size or 1
            for axis, size in enumerate(fixed)
        ]
        shape = [int(size) for size in asked.get(value.name, exported.get(value.name, guess))]
        if len(shape) != len(fixed) or any(
            f not in (None, s) for f, s in zip(fixed, shape, strict=True)
        ):
            wanted = "x".join(str(size or "?") for size in fixed)
            raise UsageError(
                f"The shape {_spelt(shape)} does not fit the input {value.name!r}.",
                remedy=f"The model wants {wanted}, where ? is any size.",
            )
        if math.prod(shape) > _MAX_ELEMENTS:
            raise UsageError(
                f"The shape {_spelt(shape)} of the input {value.name!r} is too large.",
                remedy=f"Give one of at most {_MAX_ELEMENTS:,} numbers.",
            )
        shapes[value.name] = shape
    return shapes


def _require_known(asked: Iterable[str], names: Sequence[str]) -> None:
    for name in asked:
        if name not in names:
            raise UsageError(
                f"A shape is given for {name!r}, which is not an input.",
                remedy=f"The inputs are {', '.join(names)}.",
            )


def _spelt(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _exported_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """What the exporter noted down, as far as it makes sense."""
    noted = {prop.key: prop.value for prop in model.metadata_props}
    try:
        shapes = json.loads(noted.get("pagdeploy.example_shapes", "{}"))
    except (ValueError, RecursionError):
        return {}
    return {
        name: shape
        for name, shape in (shapes.items() if isinstance(shapes, dict) else ())
        if isinstance(shape, list) and all(isinstance(s, int) and s > 0 for s in shape)
    }


def made_up_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], seed: int = 0
) -> dict[str, Array]:
    """Smooth noise in [0, 1] for float inputs, zeros for others; the same for the same seed.

    Scalars are zeros, too: they are no data but knobs, such as a budget.

    Args:
        model: Whose inputs are wanted.
        shapes: A concrete shape for each.
        seed: Of the noise.
    """
    import onnx

    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        shape = tuple(shapes[value.name])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if not np.issubdtype(dtype, np.floating) or not shape:
            made[value.name] = np.zeros(shape, dtype)
            continue
        noise = rng.random(shape)
        if len(shape) == 4:  # some structure at several scales, as images have
            for cell in (4, 16):
                coarse = rng.random((*shape[:2], -(-shape[2] // cell), -(-shape[3] // cell)))
                spread = coarse.repeat(cell, 2).repeat(cell, 3)[:, :, : shape[2], : shape[3]]
                noise = 0.3 * noise + 0.7 * spread
        made[value.name] = noise.astype(dtype)
    return made


def read_npy(path: Path) -> Array:
    """Read a .npy file without ever unpickling.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not a .npy file of numbers.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        loaded.close()  # an archive under a wrong name
    except Exception:  # numpy raises a dozen types on damaged bytes
        pass
    raise IncompatibleArtifact(
        f"{path} is not a .npy file of numbers.", remedy="Write it with numpy.save."
    )
