"""The library that registers our plugins where a host only opens it, in real lean runtimes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.plugins.conftest import Child, plugin_library, wheels

pytestmark = pytest.mark.trt

# ctypes opens a library as Triton's tensorrt backend does: RTLD_NOW and RTLD_LOCAL.
PROGRAM = """
import ctypes, json, sys
import tensorrt_lean_bindings as trt

registry = trt.get_plugin_registry()
names = [(op, space) for op in ("PAGGate", "PerforatedConv") for space in ("pagdeploy", "")]
seen = []
for path in sys.argv[1:]:
    ctypes.CDLL(path)
    seen.append(sum(registry.get_creator(op, "1", space) is not None for op, space in names))
creator = registry.get_creator("PAGGate", "1", "pagdeploy")
plugin = creator and creator.create_plugin(
    "layer", trt.PluginFieldCollection([]), trt.TensorRTPhase.RUNTIME)
print(json.dumps({"registered": seen, "works": plugin is not None}))
"""
AUDIBLE = f"import os; os.dup2(1, 2)\n{PROGRAM}"  # stderr comes back, too


def libraries(major: int, folder: Path) -> tuple[Path, Path]:
    """The plugin library and the one that registers it, side by side."""
    for kind in ("plugins", "plugins_autoreg"):
        shutil.copy(plugin_library(major, kind), folder)
    name = "libpagdeploy_plugins{}_trt{}.so"
    return folder / name.format("", major), folder / name.format("_autoreg", major)


@pytest.mark.parametrize("major", [10, 11])
def test_opening_it_registers_the_library_beside_it(
    major: int, child: Child, tmp_path: Path
) -> None:
    plugins, autoreg = libraries(major, tmp_path)
    paths = [str(plugins), str(autoreg), str(autoreg)]
    seen = json.loads(child(wheels(f"lean{major}"), PROGRAM, *paths))
    assert seen == {"registered": [0, 4, 4], "works": True}


def test_without_the_library_beside_it_it_says_so(child: Child, tmp_path: Path) -> None:
    plugins, autoreg = libraries(10, tmp_path)
    plugins.unlink()
    out = child(wheels("lean10"), AUDIBLE, str(autoreg))
    assert f"pagdeploy: autoreg: TensorRT refuses {plugins}\n" in out
    assert '{"registered": [0], "works": false}' in out


def test_another_major_version_is_left_alone(child: Child, tmp_path: Path) -> None:
    _, autoreg = libraries(10, tmp_path)
    out = child(wheels("lean11"), AUDIBLE, str(autoreg))
    assert "pagdeploy: autoreg: there is no libnvinfer.so.10\n" in out
    assert '{"registered": [0], "works": false}' in out


def test_a_copy_registers_the_library_that_it_is_named_after(child: Child, tmp_path: Path) -> None:
    plugins, autoreg = libraries(10, tmp_path)
    plugins.rename(tmp_path / "mine.so")
    copy = shutil.copy(autoreg, tmp_path / "autoreg_mine.so")
    seen = json.loads(child(wheels("lean10"), PROGRAM, str(copy)))
    assert seen == {"registered": [4], "works": True}
    nameless = shutil.copy(autoreg, tmp_path / "other.so")
    out = child(wheels("lean10"), AUDIBLE, str(nameless))
    assert 'other.so has no "autoreg_" in its name\n' in out
