"""The parts of tensorrt_road.py.

pagdeploy need not be installed on the GPU machine: what the road uses of it there needs numpy and
onnx alone, and is then taken from the source tree. The package's own __init__ asks for metadata
that only an installation has.
"""

import importlib
import sys
import types
from pathlib import Path

try:
    importlib.import_module("pagdeploy")
except ModuleNotFoundError:
    _package = types.ModuleType("pagdeploy")
    _package.__path__ = [str(Path(__file__).parents[3] / "pagdeploy")]
    sys.modules["pagdeploy"] = _package
