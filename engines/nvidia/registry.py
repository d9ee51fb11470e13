"""Plugin libraries in TensorRT's registry; what it refuses in silence gets its reason here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pagdeploy.engines.nvidia.plugin_library import read_plugin_library, why_not_loadable
from pagdeploy.errors import EnvironmentProblem
from pagdeploy.ops import DOMAIN, OPS

VERSION = "1"


def has_our_plugins(trt: Any) -> bool:
    """Whether creators of all our ops that have a plugin are registered."""
    registry = trt.get_plugin_registry()
    get = getattr(registry, "get_creator", None) or registry.get_plugin_creator
    return all(get(name, VERSION, DOMAIN) is not None for name, op in OPS.items() if op.has_plugin)


def load_libraries(trt: Any, paths: Sequence[Path], major: int) -> None:
    """Load plugin libraries, each once in this process.

    Args:
        trt: The module `tensorrt`.
        paths: Libraries; loading one runs its code.
        major: Of that TensorRT.

    Raises:
        EnvironmentProblem: a library is not there, is no plugin library for this TensorRT, or
            lacks a library of its own; or TensorRT refuses it.
    """
    registry = trt.get_plugin_registry()
    for path in paths:
        resolved = path.resolve()
        if resolved in _loaded:
            continue
        if reason := why_not_loadable(resolved, major):
            raise reason.error(EnvironmentProblem)
        handle = registry.load_library(str(resolved))
        if handle is None:
            # TensorRT says nothing; what it minds most is a creator that it knows already.
            if has_our_plugins(trt) and read_plugin_library(resolved).tensorrt_major is not None:
                continue
            raise EnvironmentProblem(
                f"TensorRT {trt.__version__} refuses the plugin library {path}.",
                remedy="See what it exports with 'pagdeploy inspect'; a creator of the same name"
                " and version may be loaded already.",
            )
        _loaded[resolved] = handle


# Handles live as long as the process: a plan that was loaded points into the library's code.
_loaded: dict[Path, Any] = {}
