"""Plugin libraries where a server can do no more than open them.

Triton's tensorrt backend gives what `plugins=` names to dlopen (`TRITONBACKEND_Initialize` and
`OpenLibraryHandle` of github.com/triton-inference-server/tensorrt_backend), and a library that is
made for TensorRT's registry, as ours is, registers nothing then. A copy of a small library of ours
(plugins/autoreg) lies beside each of them; when it is opened, it has the registry load the other.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pagdeploy.engines.nvidia.plugin_library import places
from pagdeploy.errors import EnvironmentProblem
from pagdeploy.files import is_file
from pagdeploy.manifest import Manifest


def plugins_of(manifest: Manifest) -> list[str]:
    """Names of the libraries that have to be loaded before the plan is."""
    plan = manifest.engine.plan
    return [] if plan is None or plan.embeds_plugins else plan.plugins


def opened_for(plugin: str) -> str:
    """File name of the copy that registers a plugin library: its own, without the first word."""
    return f"autoreg_{PurePosixPath(plugin).name}"


def find_autoreg(manifest: Manifest) -> Path:
    """The library that registers others, for the major version of TensorRT that built the plan.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    name = f"libpagdeploy_plugins_autoreg_trt{manifest.engine.version.partition('.')[0]}.so"
    for place in places():
        if is_file(place / name):
            return place / name
    raise EnvironmentProblem(
        f"Triton needs {name} to register the plan's plugins, and it is not installed.",
        remedy="Build it as docs/plugins.md says and set PAGDEPLOY_PLUGINS to its folder, or"
        " build the bundle with --version-compatible, whose plan holds its plugins.",
    )
