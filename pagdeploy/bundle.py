"""The artifact: a folder with engine, portable model, sample, and a manifest that vouches for it.

NAME.pagbundle/
    manifest.json        what it is, what it was made from and with, a digest of every file
    model.onnx           the portable model; any target can be built from it again
    engine.onnx|.plan    what runs, untouched
    plugins/*.so         the plugin libraries that the plan needs, if it needs any
    timing.cache         TensorRT's measurements, which make the next build quick
    calibration.json     the ranges that an int8 engine was quantized with
    sample/inputs.npz    one request
    sample/outputs.npz   the reference's answer: outputs, gate logits and selections
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from pagdeploy.errors import BuildFailed, IncompatibleArtifact, UsageError
from pagdeploy.files import inside, is_file, replacing_folder, sha256_of
from pagdeploy.manifest import FORMAT_VERSION, UNSEALED, Manifest, digest_of

MANIFEST = "manifest.json"
MODEL = "model.onnx"
ENGINE_ONNX, ENGINE_PLAN = "engine.onnx", "engine.plan"
PLUGINS, TIMING_CACHE, CALIBRATION = "plugins", "timing.cache", "calibration.json"
SAMPLE_INPUTS = "sample/inputs.npz"
SAMPLE_OUTPUTS = "sample/outputs.npz"
_MAX_UNPACKED = 2**31  # bytes of one .npz file; a small file can claim to hold any number
_MAX_MANIFEST = 64 * 2**20  # bytes
# Behind an even number of backslashes; behind an odd one, the last of them is itself escaped.
_ZERO = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_UNTRUSTED = "Do not use it; build it again, or get it again from a source you trust."

Arrays = Mapping[str, npt.NDArray[Any]]


class Bundle:
    """An opened bundle: every file is there and is the one that the manifest vouches for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            IncompatibleArtifact: the manifest does not list it, or it lies outside.
        """
        if name not in self.manifest.files:
            raise IncompatibleArtifact(
                f"{self.path} does not hold the file {name!r}.", remedy=_UNTRUSTED
            )
        return inside(self.path, name)

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays of one of its .npz files; pickled objects are refused."""
        return read_arrays(self.file(name))


@contextlib.contextmanager
def writing_bundle(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes the bundle when the block ends with a manifest in it.

    Raises:
        UsageError: the path exists and is not a bundle, lies inside one, or cannot be written.
    """
    refuse_inside_bundle(path)
    with replacing_folder(path, may_replace=_is_bundle) as folder:
        (folder / "sample").mkdir()
        yield folder


def refuse_inside_bundle(path: Path) -> None:
    """Nothing is written into a bundle after it was sealed.

    Raises:
        UsageError: the path lies inside a bundle.
    """
    for parent in path.resolve().parents:
        if _is_bundle(parent):
            raise UsageError(
                f"{path} lies inside the bundle {parent}, which is sealed.",
                remedy="Choose another output path.",
            )


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest over the files that are in the folder, and read it back.

    Raises:
        BuildFailed: nobody could open the bundle: the manifest holds what its readers refuse.
    """
    files = {
        file.relative_to(folder).as_posix(): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    listed = manifest.model_copy(update={"files": files, "digest": UNSEALED})
    try:
        text = (listed.model_dump_json(indent=2) + "\n").encode()
        sealed = text.replace(UNSEALED.encode(), digest_of(text, UNSEALED).encode())
        (folder / MANIFEST).write_bytes(sealed)
        _read_manifest(folder / MANIFEST)
    except (ValueError, IncompatibleArtifact):
        raise BuildFailed(
            "A name or a number of this build cannot stand in a manifest, so no bundle was made.",
            remedy="Export the model with names of printable characters, and give finite numbers.",
        ) from None


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and check all of it before anything is interpreted.

    Raises:
        UsageError: there is no bundle at the path.
        IncompatibleArtifact: the manifest cannot be read, is of a newer format, names a file
            outside of the bundle, a file is missing or is not the one it vouches for, or there is
            a further file whose name does not begin with a dot.
    """
    source = path / MANIFEST
    if not is_file(source):
        raise UsageError(
            f"{path} is not a bundle: it has no {MANIFEST}.",
            remedy="Give the folder that 'pagdeploy build' wrote.",
        )
    manifest = _read_manifest(source)
    for name, digest in sorted(manifest.files.items()):
        file = inside(path, name)
        if not is_file(file):
            raise IncompatibleArtifact(f"{path} lacks its file {name!r}.", remedy=_UNTRUSTED)
        if sha256_of(file) != digest:
            raise IncompatibleArtifact(
                f"{path} was changed: {name!r} is not the file that was built.", remedy=_UNTRUSTED
            )
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        known = name in manifest.files or name == MANIFEST or file.name.startswith(".")
        if not known and not file.is_dir():  # file managers leave hidden files everywhere
            raise IncompatibleArtifact(
                f"{path} holds the file {name!r}, which its manifest does not list.",
                remedy="Remove it if it is yours; if not, build the bundle again.",
            )
    engine = manifest.engine
    libraries = (*engine.libraries, *(engine.plan.plugins if engine.plan else ()))
    for name in (MODEL, SAMPLE_INPUTS, SAMPLE_OUTPUTS, engine.file, *libraries):
        Bundle(path, manifest).file(name)
    return Bundle(path, manifest)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays as .npz."""
    np.savez_compressed(path, **dict(arrays))  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a .npz file without ever unpickling.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is not an .npz file of plain arrays.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    try:
        with zipfile.ZipFile(path) as members:
            unpacked = sum(member.file_size for member in members.infolist())
        if unpacked <= _MAX_UNPACKED:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if all(isinstance(array, np.ndarray) for array in arrays.values()):
                return arrays
            raise ValueError("numpy hands out a member that is no array as its bytes")
    except Exception:  # zipfile, zlib and numpy raise a dozen types on damaged bytes
        raise IncompatibleArtifact(
            f"{path} is not an .npz file of plain arrays.", remedy="Write it with numpy.savez."
        ) from None
    raise IncompatibleArtifact(
        f"{path} holds {unpacked / 2**30:.1f} GiB of arrays; at most 2 are read.",
        remedy="Give a smaller sample.",
    )


def _is_bundle(folder: Path) -> bool:
    """Whether the manifest is ours; other tools write files of that name, too."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == "pagbundle"


def _read_manifest(path: Path) -> Manifest:
    """The manifest; the C++ runtime (engines/runtime/core) takes and refuses the same texts."""
    try:
        if path.stat().st_size > _MAX_MANIFEST:
            raise IncompatibleArtifact(
                f"The file {path} is larger than any that pagdeploy writes.", remedy=_UNTRUSTED
            )
        text = path.read_bytes()
        content = json.loads(
            text.decode("utf-8"),
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_each_key_once,
        )
        if not isinstance(content, dict) or content.get("format") != "pagbundle":
            raise ValueError("another format")
        version = content.get("format_version")
        if type(version) is not int or not -(2**63) <= version < 2**63 or _ZERO.search(text):
            raise ValueError("not a number of a version, or a name that ends early in C")
        if version != FORMAT_VERSION:
            raise IncompatibleArtifact(
                f"{path.parent} has bundle format {version}; this pagdeploy reads format"
                f" {FORMAT_VERSION}.",
                remedy="Update pagdeploy, or build the bundle again with this one.",
            )
        manifest = Manifest.model_validate_json(text, strict=True)
        unchanged = manifest.digest == digest_of(text, manifest.digest)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError, ValidationError):
        raise IncompatibleArtifact(
            f"{path} is not a manifest that pagdeploy wrote.", remedy=_UNTRUSTED
        ) from None
    if not unchanged:
        raise IncompatibleArtifact(f"{path} was changed after the build.", remedy=_UNTRUSTED)
    for name in sorted(manifest.files):
        inside(path.parent, name)
    inside(path.parent, manifest.engine.file)
    return manifest


def _each_key_once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text; of a key that is there twice, readers keep one or the other."""
    content = dict(entries)
    if len(content) != len(entries):
        raise ValueError("a key is there twice")
    return content


def _finite(text: str) -> float:
    """A number of a JSON text, which infinity and NaN are none of."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number
