"""TensorRT's measurements of kernels, kept between builds: they make the next one quick."""

from __future__ import annotations

import re
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


def attach(config: Any, *paths: Path | None) -> bool:
    """Give the builder the measurements of the first file that it can use, or an empty cache.

    Returns:
        Whether there was one; what another TensorRT or another GPU measured is none.

    Raises:
        UsageError: a path is a folder, or a file is unreasonably large.
    """
    for path in paths:
        content = b"" if path is None else _read(path)
        cache = config.create_timing_cache(content) if content else None
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


def keep(config: Any, path: Path) -> bytes:
    """Write the builder's measurements, whole or not at all; returns them.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    content = bytes(config.get_timing_cache().serialize())
    make_folder(path.parent)
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
