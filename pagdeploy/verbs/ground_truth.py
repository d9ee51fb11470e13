"""A folder of images with what is true of each pixel, read one image at a time.

Either pictures beside pictures, matched by name without suffix:

    FOLDER/images/NAME.jpg          anything that Pillow reads, or .npy
    FOLDER/segmentation/NAME.png    8 or 16 bits: the class of each pixel
    FOLDER/boundary/NAME.png        nonzero on a boundary
    FOLDER/depth/NAME.png           16 bits: millimetres, 0 where unknown
    FOLDER/normals/NAME.png         8 bits RGB: x, y, z as 127.5 (1 + v); black where unknown

where each truth may also be .npy, or .npz with one array: classes as integers (H, W), boundaries
as numbers or bool (H, W), depths as floats (H, W) in the unit of the model, normals as floats
(3, H, W). Or all of an image in one file:

    FOLDER/NAME.npz                 arrays "image" (3, H, W) and "segmentation", "depth", ...

An image of uint8 is divided by 255, like a picture; floats are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import read_arrays
from pagdeploy.errors import IncompatibleArtifact, UsageError

Array = npt.NDArray[Any]
TASKS = ("segmentation", "boundary", "depth", "normals")
IMAGES = "images"
_ARRAYS = (".npy", ".npz")
_MILLIMETRE = 1e-3


@dataclass(frozen=True)
class Example:
    """An image and its truths.

    Attributes:
        name: Of its files.
        image: Float32, (1, C, H, W).
        truths: By task: int64 classes (H, W), bool boundaries (H, W), float depths (H, W), float
            normals (3, H, W).
    """

    name: str
    image: Array
    truths: dict[str, Array]


@dataclass(frozen=True)
class DataFolder:
    """What a folder has, before any of it is read.

    Attributes:
        files: By image name: the files of the image and of its truths, by IMAGES and by task; one
            file stands for all where it holds all.
        tasks: That have truths.
    """

    files: Mapping[str, Mapping[str, Path]]
    tasks: Sequence[str]

    def examples(
        self, tasks: Sequence[str], size: tuple[int, int] | None = None
    ) -> Iterator[Example]:
        """Read one after the other.

        Args:
            tasks: Whose truths are wanted.
            size: (H, W) to resize pictures to; None keeps their own. Truths are never resized.

        Raises:
            IncompatibleArtifact: a file is damaged, or holds something else.
        """
        for name, files in self.files.items():
            if IMAGES in files:
                image = _image_of(files[IMAGES], size)
                truths = {task: _truth_of(task, files[task]) for task in tasks}
            else:
                (file,) = set(files.values())
                arrays = read_arrays(file)
                image = _as_image(arrays["image"], file)
                truths = {task: _as_truth(task, arrays[task], file) for task in tasks}
            yield Example(name, image, truths)


def open_data(folder: Path) -> DataFolder:
    """Find the images and their truths.

    Raises:
        UsageError: there is no such folder, it has no images, or an image lacks a truth that
            others have.
        IncompatibleArtifact: a file is not what its suffix says.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", remedy="Check the path.")
    if (folder / IMAGES).is_dir():
        files = _beside_each_other(folder)
    else:
        files = {}
        for path in sorted(folder.glob("*.npz")):
            held = set(_members(path))
            if "image" not in held:
                raise UsageError(
                    f"{path} has no array 'image'.", remedy="Leave other files out of the folder."
                )
            files[path.stem] = {task: path for task in TASKS if task in held}
    if not files:
        raise UsageError(
            f"{folder} has no images.",
            remedy=f"Put them into {folder / IMAGES}, and their truths into folders beside it"
            f" ({', '.join(TASKS)}).",
        )
    tasks = [task for task in TASKS if any(task in each for each in files.values())]
    for name, each in files.items():
        for task in tasks:
            if task not in each:
                raise UsageError(
                    f"The image {name!r} has no truth for the task {task}, and others have.",
                    remedy="Add it, or take the image away.",
                )
    if not tasks:
        raise UsageError(
            f"{folder} has images and no truths.",
            remedy=f"Put them into folders beside the images, named {', '.join(TASKS)}.",
        )
    return DataFolder(files, tasks)


def _beside_each_other(folder: Path) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for kind in (IMAGES, *TASKS):
        if not (folder / kind).is_dir():
            continue
        for path in sorted((folder / kind).iterdir()):
            if not path.is_file() or path.name.startswith("."):
                continue
            if kind == IMAGES:
                found.setdefault(path.stem, {})
            if path.stem in found:  # a truth without an image is of another split
                if kind in found[path.stem]:
                    raise UsageError(
                        f"{path} and {found[path.stem][kind].name} have the same name.",
                        remedy="Keep one of them.",
                    )
                found[path.stem][kind] = path
    return found


def _members(path: Path) -> list[str]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        raise IncompatibleArtifact(
            f"{path} is not an .npz file of plain arrays.", remedy="Write it with numpy.savez."
        ) from None


def _image_of(path: Path, size: tuple[int, int] | None) -> Array:
    from pagdeploy.verbs.inputs import read_image

    return _as_image(_array_of(path), path) if path.suffix in _ARRAYS else read_image(path, size)


def _as_image(array: Array, path: Path) -> Array:
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[0] != 1:
        raise _wrong(path, array, "image", "(C, H, W)")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    return array.astype(np.float32)


def _truth_of(task: str, path: Path) -> Array:
    if path.suffix in _ARRAYS:
        return _as_truth(task, _array_of(path), path)
    from PIL import Image

    from pagdeploy.verbs.inputs import read_image

    try:
        with Image.open(path) as picture:
            mode, small = picture.mode, picture.width * picture.height <= 2**26
            if small and task != "normals":
                pixels = np.asarray(picture)
    except Exception:  # Pillow and its codecs raise a dozen types on damaged bytes
        raise IncompatibleArtifact(
            f"{path} is not an image, or it is damaged.", remedy="Open it in a viewer to check."
        ) from None
    if task == "normals":
        return np.asarray(read_image(path)[0] * 2 - 1)  # (3, H, W): v / 127.5 - 1
    if not small or pixels.ndim != 2 or (task == "depth" and mode in ("1", "L", "P")):
        wanted = "16 bits a pixel" if task == "depth" else "one channel"
        raise IncompatibleArtifact(
            f"{path} is a picture of mode {mode}, which holds no {task}.",
            remedy=f"Write it with {wanted}, or as .npy.",
        )
    if task == "depth" and np.issubdtype(pixels.dtype, np.integer):
        return pixels.astype(np.float32) * np.float32(_MILLIMETRE)
    return _as_truth(task, pixels, path)


def _as_truth(task: str, array: Array, path: Path) -> Array:
    channels = 3 if task == "normals" else 1
    while array.ndim > (3 if task == "normals" else 2) and array.shape[0] == 1:
        array = array[0]
    integral = np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_
    fits = array.ndim == (3 if channels == 3 else 2) and (channels == 1 or array.shape[0] == 3)
    if task == "segmentation" and fits and integral:
        return array.astype(np.int64)
    if task == "boundary" and fits:
        return np.asarray(array != 0)
    if task in ("depth", "normals") and fits and np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    kind = {"segmentation": "integers (H, W)", "boundary": "(H, W)", "depth": "floats (H, W)"}
    raise _wrong(path, array, task, kind.get(task, "floats (3, H, W)"))


def _array_of(path: Path) -> Array:
    if path.suffix == ".npz":
        arrays = list(read_arrays(path).values())
        if len(arrays) == 1:
            return arrays[0]
        raise IncompatibleArtifact(
            f"{path} holds {len(arrays)} arrays.", remedy="Write one array into each file."
        )
    from pagdeploy.verbs.inputs import read_npy

    return read_npy(path)


def _wrong(path: Path, array: Array, what: str, wanted: str) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        f"{path} holds {array.dtype} {array.shape} for the {what}.", remedy=f"Write {wanted}."
    )
