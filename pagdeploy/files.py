"""Files written whole or not at all, fingerprints, and names that stay in their folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pagdeploy.errors import IncompatibleArtifact, UsageError

_LONGEST_NAME = 200  # bytes; file systems stop at 255, and a temporary name is longer


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name only if the block succeeds.

    Raises:
        UsageError: the folder does not exist, or `path` is a folder.
    """
    require_writable(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, *, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name only if the block succeeds.

    Args:
        path: The folder to make; a link is followed.
        may_replace: Whether an existing folder is one of ours, so that a mistyped output path
            never deletes somebody's data. An empty folder is always replaced.

    Raises:
        UsageError: the parent does not exist, or `path` exists and is something else.
    """
    path = path.resolve() if path.is_symlink() else path
    _require_parent(path)
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or may_replace(path))):
        raise UsageError(
            f"{path} exists and was not written by pagdeploy.",
            remedy="Choose another output path, or remove it first.",
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.replace(old)  # an empty folder may be replaced by a rename
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that exists is kept with all that it holds.

    Raises:
        UsageError: a file has the name, or the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"The folder {path} cannot be made ({problem.strerror}).", remedy="Write elsewhere."
        ) from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_file(path: Path) -> bool:
    """Whether there is a file; False where no file could be, as under a name that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`; names come from untrusted manifests.

    Raises:
        IncompatibleArtifact: the name is absolute, leaves the folder, or leads out by a link.
    """
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not name.startswith("/") and "\\" not in name and "\0" not in name
    if plain and ".." not in parts and not re.match(r"^[A-Za-z]:", name):
        path = folder.joinpath(*parts)
        with contextlib.suppress(ValueError, OSError):  # a name that no file can have
            if path.resolve().is_relative_to(folder.resolve()):
                return path
    raise IncompatibleArtifact(
        f"{folder} names the file {name!r}, which lies outside of it.",
        remedy="Do not use this artifact; get it again from a source you trust.",
    )


def require_writable(path: Path) -> None:
    """Refuse a path that no file can be written to, before the work that would fill it.

    Raises:
        UsageError: the folder does not exist, or `path` is a folder.
    """
    _require_parent(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", remedy="Name a file to write.")


def _require_parent(path: Path) -> None:
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise UsageError(
            f"The name {path.name[:40]}... is too long for a file.", remedy="Choose a shorter one."
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"The folder {path.parent} does not exist.", remedy="Create it, or write elsewhere."
        )
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"The folder {path.parent} cannot be written to.", remedy="Write elsewhere."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
