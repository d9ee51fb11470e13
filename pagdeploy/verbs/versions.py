"""What a report was made with and of: versions and digests, for whoever wants the same again."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("pagdeploy", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt")


def versions() -> dict[str, str]:
    """Versions of Python, the system and the packages that matter, by name."""
    found = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of a file, or of a bundle's manifest, its engine and the model it is from.

    Args:
        path: A file that is there, or a bundle that was opened before.
    """
    from pagdeploy.bundle import open_bundle
    from pagdeploy.files import sha256_of

    if not path.is_dir():
        return {"SHA-256 of the file": sha256_of(path)}
    manifest = open_bundle(path).manifest
    return {
        "digest of the bundle": manifest.digest,
        f"SHA-256 of {manifest.engine.file}": manifest.files[manifest.engine.file],
        "SHA-256 of the source model": manifest.source_sha256,
        "built by": f"pagdeploy {manifest.pagdeploy_version}, {manifest.engine.flavour}"
        f" {manifest.engine.version}, on {manifest.host.system} {manifest.host.machine}",
    }
