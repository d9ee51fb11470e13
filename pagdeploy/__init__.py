"""pagdeploy: an ONNX/TensorRT deployment compiler for pixel-gated networks.

import pagdeploy
pagdeploy.export("model.py:factory", "m.onnx", weights="w.safetensors")
pagdeploy.build("m.onnx", "m.pagbundle")
assert pagdeploy.verify("m.pagbundle").passed
outputs = pagdeploy.load("m.pagbundle").run({"image": image})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagdeploy.engines.base import Session
    from pagdeploy.verbs.build import BuildResult
    from pagdeploy.verbs.export import ExportResult
    from pagdeploy.verbs.harden import HardenResult
    from pagdeploy.verbs.profile.result import ProfileResult
    from pagdeploy.verbs.proof import Verification

__all__ = [
    "__version__",
    "build",
    "cmake_prefix",
    "export",
    "harden",
    "load",
    "profile",
    "verify",
]
__version__ = metadata.version("pagdeploy")

PathArgument = str | PathLike[str]


def export(
    model: Any,
    output: PathArgument,
    *,
    weights: PathArgument | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> ExportResult:
    """Export a model to one portable ONNX file; see `pagdeploy.verbs.export`."""
    from pagdeploy.verbs.export import export as verb

    checkpoint = None if weights is None else Path(weights)
    return verb(model, Path(output), weights=checkpoint, shapes=shapes, **options)


def harden(model: PathArgument, output: PathArgument, **options: Any) -> HardenResult:
    """Let gates decide where a model mixes softly; see `pagdeploy.verbs.harden`."""
    from pagdeploy.verbs.harden import harden as verb

    return verb(Path(model), Path(output), **options)


def build(model: PathArgument, output: PathArgument, **options: Any) -> BuildResult:
    """Build a bundle from a portable model; see `pagdeploy.verbs.build`."""
    from pagdeploy.verbs.build import build as verb

    return verb(Path(model), Path(output), **options)


def verify(subject: PathArgument, **options: Any) -> Verification:
    """Verify a bundle or a model; see `pagdeploy.verbs.verify`."""
    from pagdeploy.verbs.verify import verify as verb

    return verb(Path(subject), **options)


def profile(bundle: PathArgument, **options: Any) -> ProfileResult:
    """Time a bundle beside its dense baselines; see `pagdeploy.verbs.profile`."""
    from pagdeploy.verbs.profile import profile as verb

    return verb(Path(bundle), **options)


def load(bundle: PathArgument, **options: Any) -> Session:
    """A session for a bundle, ready to run; see `pagdeploy.verbs.run.load`."""
    from pagdeploy.verbs.run import load as verb

    return verb(Path(bundle), **options)


def cmake_prefix() -> str:
    """The folder for CMAKE_PREFIX_PATH: there find_package(pagdeploy) finds the C++ parts.

    Raises:
        EnvironmentProblem: this installation has none.
    """
    from importlib.resources import files

    from pagdeploy.errors import EnvironmentProblem

    prefix = Path(str(files("pagdeploy")))
    if not (prefix / "lib/cmake/pagdeploy/pagdeployConfig.cmake").is_file():
        raise EnvironmentProblem(
            "This installation of pagdeploy has no C++ parts.",
            remedy="Build its wheel with PAGDEPLOY_BUILD_PLUGINS=1, or run cmake --install.",
        )
    return str(prefix)
