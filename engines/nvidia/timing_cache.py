"""TensorRT's measurements of kernels, kept between builds: they make the next one quick."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pagdeploy.errors import UsageError
from pagdeploy.files import is_file, make_folder, replacing_file

_LARGEST = 2**30  # bytes; a real one has some megabytes


def cache_path(version: str, gpu: str, driver: str) -> Path:
    """Where the measurements of one TensorRT on one GPU are kept.

    They hold for exactly these; TensorRT refuses those of another version, but not those of
    another driver.
    """
    from platformdirs import user_cache_path

    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in (version, gpu, driver))
    return Path(user_cache_path("pagdeploy")) / "timing" / f"{name}.cache"


def attach(config: Any, paths: Sequence[Path], *, named: bool) -> bool:
    """Give the builder the measurements of all files that it can use.

    Args:
        config: The builder's configuration.
        paths: Where they are kept, and others to take over; what another TensorRT or another GPU
            measured is left out.
        named: The user named the first: a file there that cannot be used is not ours to replace.

    Returns:
        Whether there were any.

    Raises:
        UsageError: a path is a folder, or a file is unreasonably large; or the first was named and
            holds something else.
    """
    whole = config.create_timing_cache(b"")
    used = False
    for path in paths:
        content = _read(path)
        if not content:
            continue
        cache = config.create_timing_cache(content)
        if cache is not None and whole.combine(cache, False):
            used = True
        elif named and path == paths[0]:
            raise UsageError(
                f"{path} is not a timing cache of this TensorRT on this GPU.",
                remedy="Name another file, or one that does not exist yet.",
            )
    config.set_timing_cache(whole, False)
    return used


def require_writable(path: Path) -> None:
    """Make the folder of a cache, before a long build is spent on it.

    Raises:
        UsageError: it cannot be made or written to.
    """
    make_folder(path.parent)
    with replacing_file(path.parent / f".{path.name}.probe") as temporary:
        temporary.write_bytes(b"")
    (path.parent / f".{path.name}.probe").unlink()


def keep(config: Any, path: Path) -> bytes:
    """Write the builder's measurements, whole or not at all; returns them.

    What another build has written in the meantime is kept, too.

    Raises:
        UsageError: the folder cannot be written to.
    """
    whole = config.get_timing_cache()
    if theirs := _read(path):
        cache = config.create_timing_cache(theirs)
        if cache is not None:
            whole.combine(cache, False)
    content = bytes(whole.serialize())
    with replacing_file(path) as temporary:
        temporary.write_bytes(content)
    return content


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UsageError(f"The timing cache {path} is a folder.", remedy="Name a file.")
    if not is_file(path):
        return b""
    if path.stat().st_size > _LARGEST:
        raise UsageError(
            f"{path} is too large for a timing cache.", remedy="Remove it, or name another file."
        )
    return path.read_bytes()
