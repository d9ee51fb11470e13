"""Run: a bundle on a request, its answers as arrays and as pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import open_bundle
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.session import open_session

if TYPE_CHECKING:
    from pagdeploy.engines.base import Session

Arrays = Mapping[str, npt.NDArray[Any]]
# Names that Windows keeps for devices, with any suffix.
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{p}{n}" for p in ("COM", "LPT") for n in range(10))}


def load(
    path: Path, *, selections: bool = False, threads: int = 0, allow_host_code: bool = False
) -> Session:
    """A session for a bundle, after every file of it was checked.

    Args:
        path: Of the bundle.
        selections: Show each gate's selection as a further output.
        threads: Threads inside one operator; 0 takes one per core.
        allow_host_code: Let a version-compatible plan run the code that it holds; whoever built it
            is trusted.

    Raises:
        UsageError: there is no bundle at the path, or it holds code that is not allowed.
        IncompatibleArtifact: it is damaged, was changed, is of another format, or its plan is for
            another runtime or GPU.
        EnvironmentProblem: its engine's runtime is not installed, or there is no GPU.
    """
    return open_session(
        open_bundle(path), selections=selections, threads=threads, host_code=allow_host_code
    )


def run(
    path: Path,
    arguments: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    allow_host_code: bool = False,
    save_outputs: Path | None = None,
    progress: Progress = silent,
) -> dict[str, npt.NDArray[Any]]:
    """Run a bundle and return its outputs, and each gate's selection under its value's name.

    Args:
        path: Of the bundle.
        arguments: `name=file`, as `verbs.inputs.parse_inputs`; empty runs the bundle's sample.
        size: (H, W) to resize images to.
        allow_host_code: As `load`.
        save_outputs: Folder for one .npy and one .png per output and selection; made if absent.
        progress: Told of the steps.

    Raises:
        UsageError, EnvironmentProblem, IncompatibleArtifact, BuildFailed: as `load`, and for
            inputs that cannot be read or do not fit.
    """
    from pagdeploy.bundle import SAMPLE_INPUTS
    from pagdeploy.verbs.inputs import parse_inputs

    total = 3 if save_outputs else 2
    progress(f"load {path}", 1, total)
    bundle = open_bundle(path)
    session = open_session(bundle, selections=True, host_code=allow_host_code)
    names = [info.name for info in session.inputs]
    if arguments:
        inputs: Arrays = parse_inputs(arguments, names, dict.fromkeys(names, size) if size else {})
    else:
        inputs = bundle.arrays(SAMPLE_INPUTS)
    progress("run", 2, total)
    outputs = session.run(inputs)
    if save_outputs is not None:
        progress(f"write {save_outputs}", 3, total)
        _save(outputs, save_outputs)
    return outputs


def _save(outputs: Arrays, folder: Path) -> None:
    from pagdeploy.files import make_folder, replacing_file
    from pagdeploy.verbs.pictures import as_picture

    make_folder(folder)
    for name, safe in zip(outputs, file_names(outputs), strict=True):
        array = outputs[name]
        with replacing_file(folder / f"{safe}.npy") as temporary, temporary.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
        picture = as_picture(array)
        if picture is not None:
            with replacing_file(folder / f"{safe}.png") as temporary:
                picture.save(temporary, format="png")


def file_names(names: Iterable[str]) -> list[str]:
    """A file name for each name: plain, short, and different from all others on any disk."""
    taken: set[str] = set()
    found = []
    for name in names:
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
        plain = plain[:80].strip(".") or "_"
        if plain.split(".")[0].upper() in _RESERVED:
            plain = f"_{plain}"
        candidates = (f"{plain}_{n}" if n else plain for n in itertools.count())
        safe = next(c for c in candidates if c.lower() not in taken)
        taken.add(safe.lower())
        found.append(safe)
    return found


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) from "480x640".

    Raises:
        UsageError: the text is something else.
    """
    from pagdeploy.errors import UsageError

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() and len(p) < 10 and int(p) > 0 for p in parts):
        raise UsageError(f"The size {text!r} cannot be read.", remedy="Write HxW, as in 480x640.")
    return int(parts[0]), int(parts[1])
